import { Models } from "./models.js";
import { decoded, wav } from "./recording.js";

const LONGEST = 20; // [s]; of longer recordings the beginning is taken
const element = (id) => document.getElementById(id);
const models = new Models();
let facts;
let busy = false;

const complain = (message) => {
  element("fault").textContent = message;
  element("fault").hidden = !message;
};

const linked = (samples, rate) => URL.createObjectURL(wav(samples, rate));

const STOPS = [[0, 0, 4], [81, 18, 124], [183, 55, 121], [252, 137, 97], [252, 253, 191]];
const colour = (share) => {
  const place = Math.max(0, Math.min(0.9999, share)) * (STOPS.length - 1);
  const [low, high] = [STOPS[Math.floor(place)], STOPS[Math.floor(place) + 1]];
  return low.map((value, index) => value + (place % 1) * (high[index] - value));
};

const draw = (canvas, mel, least, most) => {
  const frames = mel.length / facts.n_mels;
  canvas.width = frames;
  canvas.height = facts.n_mels;
  const image = new ImageData(frames, facts.n_mels);
  mel.forEach((value, index) => {
    const row = facts.n_mels - 1 - Math.floor(index / frames);
    image.data.set([...colour((value - least) / (most - least)), 255], 4 * (row * frames + (index % frames)));
  });
  canvas.getContext("2d").putImageData(image, 0, 0);
};

const ends = (mel) => mel.reduce(([low, high], value) => [Math.min(low, value), Math.max(high, value)], [Infinity, -Infinity]);

const show = (samples, { speech, mel, made, seconds }) => {
  draw(element("mel-before"), mel, ...ends(mel));
  draw(element("mel-after"), made, ...ends(mel));
  element("before").src = linked(samples, facts.sample_rate);
  element("after").src = element("save").href = linked(speech, facts.sample_rate);
  const length = samples.length / facts.sample_rate;
  element("numbers").textContent =
    `${length.toFixed(1)} s of speech in ${seconds.toFixed(1)} s: ${(seconds / length).toFixed(2)} s for each second, ` +
    `in ${facts.evaluations} evaluation${facts.evaluations === 1 ? "" : "s"} of the network.`;
  element("result").hidden = false;
};

// One thing at a time: the buttons rest meanwhile.
const work = async (task) => {
  if (busy || !facts) return;
  busy = true;
  complain("");
  for (const name of ["example", "make"]) element(name).disabled = true;
  try {
    await task();
  } catch (error) {
    complain(error.message);
  } finally {
    busy = false;
    for (const name of ["example", "make"]) element(name).disabled = false;
  }
};

const vocode = (name, bytes) => work(async () => {
  element("file-name").textContent = name;
  try {
    const complaint = "This is no recording that your browser reads; try WAV, FLAC, OGG or MP3.";
    const samples = await decoded(await bytes, facts.sample_rate, complaint, LONGEST * facts.sample_rate);
    if (!samples.length) throw new Error("This recording holds no sound.");
    element("file-hint").textContent = `Vocoding ${(samples.length / facts.sample_rate).toFixed(1)} s …`;
    show(samples, await models.vocode(samples));
    element("file-hint").textContent = "done; drop another";
  } catch (error) {
    element("file-hint").textContent = "or choose a file; it does not leave this page";
    throw error;
  }
});

const take = (file) => file && vocode(file.name, file.arrayBuffer());
element("file").addEventListener("change", (event) => take(event.target.files[0]));
element("example").addEventListener("click", () => vocode("The example", fetch("clip.flac").then((answer) => answer.arrayBuffer())));
for (const kind of ["dragenter", "dragover", "dragleave", "drop"])
  element("drop").addEventListener(kind, (event) => {
    event.preventDefault();
    element("drop").classList.toggle("over", kind === "dragenter" || kind === "dragover");
    if (kind === "drop") take(event.dataTransfer.files[0]);
  });

// Sound effects.

const make = (name, attributes, ...children) => {
  const made = Object.assign(document.createElement(name), attributes);
  made.append(...children);
  return made;
};
const addCard = (label, seed, { sound, mel, seconds }) => {
  const { sample_rate: rate } = facts.sounds;
  const canvas = make("canvas", { role: "img", ariaLabel: `Mel spectrogram of ${label}` });
  const [, loudest] = ends(mel);
  draw(canvas, mel, loudest - 9, loudest); // nepers: 80 dB
  const source = linked(sound, rate);
  const words = `seed ${seed}: ${(sound.length / rate).toFixed(1)} s, made in ${seconds.toFixed(1)} s`;
  const audio = make("audio", { controls: true, src: source, ariaLabel: `${label}, seed ${seed}` });
  const save = make("a", { className: "save", href: source, download: `${label}-${seed}.wav` }, "Save WAV");
  const about = make("div", { className: "about" }, label, make("small", {}, words));
  element("cards").prepend(
    make("article", { className: "card sound" }, canvas, audio, make("div", { className: "bar" }, about, save)));
  audio.play().catch(() => {}); // a browser may want a click first
};
element("sounds-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const label = document.querySelector("#labels input:checked").value;
  const seed = Math.abs(Math.trunc(Number(element("seed").value))) || 0;
  work(async () => {
    element("making").textContent = `Making ${label} …`;
    try {
      addCard(label, seed, await models.sound(label, { seed }));
      element("seed").value = seed + 1; // another click, another sound
    } finally {
      element("making").textContent = "";
    }
  });
});
const offerSounds = () => {
  const { classes, sample_rate: rate, samples, evaluations, loaded_bytes } = facts.sounds;
  element("labels").append(...Object.keys(classes).map((name, index, names) => {
    const checked = index === Math.max(names.indexOf("glass"), 0);
    return make("label", {}, make("input", { type: "radio", name: "label", value: name, checked }), make("span", {}, name));
  }));
  element("sounds-facts").textContent =
    `Another seed is another sound. A sound has ${(samples / rate).toFixed(1)} s and takes ${evaluations} evaluations of the network. The first sound loads ` +
    `the generator, ${(loaded_bytes / 1e6).toFixed(0)} MB.`;
  element("sounds").hidden = false;
};

models.ready.then(
  (told) => {
    facts = told;
    element("facts").textContent =
      `The model takes ${facts.mel_name} mels at ${facts.sample_rate.toLocaleString("en")} Hz; the model and its runtime are ` +
      `${(facts.loaded_bytes / 1e6).toFixed(0)} MB. Recordings are taken up to ${LONGEST} seconds.`;
    if (facts.sounds) offerSounds();
    for (const name of ["example", "make"]) element(name).disabled = false;
  },
  (error) => complain(`The model could not be loaded: ${error.message}`),
);
