// A vocoder in a browser: `const vocoder = new Vocoder(); await vocoder.ready; await vocoder.vocode(samples)`.

export class Vocoder {
  #worker = new Worker(new URL("worker.js", import.meta.url), { type: "module" });
  #waiting = new Map();
  #number = 0;

  constructor() {
    this.#worker.onmessage = ({ data }) => this.#settle(data.number, data);
    this.#worker.onerror = (event) => {
      const error = event.message || "the worker did not start";
      for (const number of [...this.#waiting.keys()]) this.#settle(number, { error });
    };
    /** What facts.json says of the model; known once it is loaded. */
    this.ready = this.#ask({});
  }

  /**
   * Samples (N) at the model's rate -> { speech, mel, made, seconds }: speech (N), the mel (n_mels, frames) that it was
   * made of, that of the speech, and how long it took. `seed` draws the noise; or `noise` (draws, N) is given,
   * N = frames * hop_length.
   */
  vocode(samples, { seed = 0, noise = null } = {}) {
    return this.#ask({ samples, seed, noise });
  }

  #ask(request) {
    const number = this.#number++;
    return new Promise((resolve, reject) => {
      this.#waiting.set(number, { resolve, reject });
      this.#worker.postMessage({ ...request, number });
    });
  }

  #settle(number, { error, result }) {
    const { resolve, reject } = this.#waiting.get(number);
    this.#waiting.delete(number);
    if (error) reject(new Error(error));
    else resolve(result);
  }
}
