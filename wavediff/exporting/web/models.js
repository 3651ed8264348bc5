// Models in a browser: `const models = new Models(); await models.ready; await models.vocode(samples)`, and
// `await models.sound("glass", { seed: 3 })`.

export class Models {
  #worker = new Worker(new URL("worker.js", import.meta.url), { type: "module" });
  #waiting = new Map();
  #number = 0;

  constructor() {
    this.#worker.onmessage = ({ data }) => this.#settle(data.number, data);
    this.#worker.onerror = (event) => {
      const error = event.message || "the worker did not start";
      for (const number of [...this.#waiting.keys()]) this.#settle(number, { error });
    };
    /** What facts.json says of the models; known once the vocoder is loaded. */
    this.ready = this.#ask("facts", {});
  }

  /**
   * Samples (N) at the model's rate -> { speech, mel, made, seconds }: speech (N), the mel (n_mels, frames) that it was
   * made of, that of the speech, and how long it took. `seed` draws the noise; or `noise` (draws, N) is given,
   * N = frames * hop_length.
   */
  vocode(samples, { seed = 0, noise = null } = {}) {
    return this.#ask("vocode", { samples, seed, noise });
  }

  /**
   * A class -> { sound, mel, seconds }: sound (N) at the generator's rate, its mel (n_mels, frames) and how long it took.
   * `seed` draws the noise; or `noise` (draws, values) and `phases` (draws, samples) are given. The first sound loads the
   * generator.
   */
  sound(label, { seed = 0, noise = null, phases = null } = {}) {
    return this.#ask("sound", { label, seed, noise, phases });
  }

  #ask(what, request) {
    const number = this.#number++;
    return new Promise((resolve, reject) => {
      this.#waiting.set(number, { resolve, reject });
      this.#worker.postMessage({ number, what, request });
    });
  }

  #settle(number, { error, result }) {
    const { resolve, reject } = this.#waiting.get(number);
    this.#waiting.delete(number);
    if (error) reject(new Error(error));
    else resolve(result);
  }
}
