// Runs the model beside the page, which stays awake meanwhile.
import * as ort from "./ort.wasm.min.mjs";

ort.env.wasm.numThreads = 1; // several need headers that static hosts do not send
ort.env.wasm.wasmPaths = new URL("./", import.meta.url).href;

const facts = fetch(new URL("facts.json", import.meta.url)).then((answer) => answer.json());
const open = (name) => ort.InferenceSession.create(new URL(name, import.meta.url).href, { executionProviders: ["wasm"] });
const loaded = Promise.all([facts, open("mel.onnx"), open("vocoder.onnx")]);
let generator; // is as large as all of them, so it is loaded when it is first asked

// Normal numbers: mulberry32 makes uniform ones of a seed, Box and Muller's transform pairs of normal ones of those.
const normal = (count, seed) => {
  let state = seed >>> 0;
  const uniform = () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return (((mixed ^ (mixed >>> 14)) >>> 0) + 0.5) / 4294967296;
  };
  const numbers = new Float32Array(count + (count % 2));
  for (let index = 0; index < count; index += 2) {
    const radius = Math.sqrt(-2 * Math.log(uniform()));
    const angle = 2 * Math.PI * uniform();
    numbers[index] = radius * Math.cos(angle);
    numbers[index + 1] = radius * Math.sin(angle);
  }
  return numbers.subarray(0, count);
};

const timed = async (work) => {
  const start = performance.now();
  const result = await work();
  return [result, (performance.now() - start) / 1000];
};

// Samples, filled up to whole frames.
const filled = (samples, facts) => {
  const frames = Math.max(Math.ceil(samples.length / facts.hop_length), facts.least_frames);
  const waveform = new Float32Array(frames * facts.hop_length);
  waveform.set(samples);
  return waveform;
};
const melOf = async (waveform, analysis) =>
  (await analysis.run({ waveform: new ort.Tensor("float32", waveform, [1, waveform.length]) })).mel;

const vocode = async ({ samples, seed, noise: given }) => {
  const [facts, analysis, sampler] = await loaded;
  const waveform = filled(samples, facts);
  const [[mel, speech], seconds] = await timed(async () => {
    const told = await melOf(waveform, analysis);
    const shape = [1, facts.draws, told.dims[2] * facts.hop_length];
    const noise = given ?? normal(shape[1] * shape[2], seed);
    return [told, (await sampler.run({ mel: told, noise: new ort.Tensor("float32", noise, shape) })).speech.data];
  });
  const spoken = speech.slice(0, samples.length);
  return { speech: spoken, mel: mel.data, made: (await melOf(speech.slice(0, waveform.length), analysis)).data, seconds };
};

const sound = async ({ label, seed, noise, phases }) => {
  const [facts, analysis] = await loaded;
  const { classes, shapes } = facts.sounds;
  const session = await (generator ??= open("sounds.onnx"));
  const kinds = classes[label]; // of a class with kinds, seeds that follow each other take one after the other
  const sizes = shapes.map((shape) => shape.reduce((product, size) => product * size));
  const drawn = normal(sizes.reduce((sum, size) => sum + size), seed);
  const given = [noise ?? drawn.slice(0, sizes[0]), phases ?? drawn.slice(sizes[0])];
  const feeds = { label: new ort.Tensor("int64", BigInt64Array.of(BigInt(kinds[seed % kinds.length])), [1]) };
  shapes.forEach((shape, index) => (feeds[["noise", "phases"][index]] = new ort.Tensor("float32", given[index], shape)));
  const [made, seconds] = await timed(async () => (await session.run(feeds)).sound.data);
  return { sound: made, mel: (await melOf(filled(made, facts), analysis)).data, seconds };
};

const answers = { facts: async () => (await loaded)[0], vocode, sound };
onmessage = async ({ data: { number, what, request } }) => {
  try {
    postMessage({ number, result: await answers[what](request) });
  } catch (error) {
    if (what === "sound") generator = undefined; // the next one may load it
    postMessage({ number, error: error?.message ?? `${error}` });
  }
};
