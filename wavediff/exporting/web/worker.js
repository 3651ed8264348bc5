// Runs the model beside the page, which stays awake meanwhile.
import * as ort from "./ort.wasm.min.mjs";

ort.env.wasm.numThreads = 1; // several need headers that static hosts do not send
ort.env.wasm.wasmPaths = new URL("./", import.meta.url).href;

const load = async () => {
  const facts = await (await fetch(new URL("facts.json", import.meta.url))).json();
  const open = (name) => ort.InferenceSession.create(new URL(name, import.meta.url).href, { executionProviders: ["wasm"] });
  return { facts, analysis: await open("mel.onnx"), sampler: await open("vocoder.onnx") };
};
const loaded = load();

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

const vocode = async (samples, seed, given) => {
  const { facts, analysis, sampler } = await loaded;
  const frames = Math.max(Math.ceil(samples.length / facts.hop_length), facts.least_frames);
  const length = frames * facts.hop_length;
  const filled = new Float32Array(length);
  filled.set(samples);
  const mel = async (waveform) => (await analysis.run({ waveform: new ort.Tensor("float32", waveform, [1, length]) })).mel;
  const start = performance.now();
  const told = await mel(filled);
  const noise = given ?? normal(facts.draws * told.dims[2] * facts.hop_length, seed);
  const feeds = { mel: told, noise: new ort.Tensor("float32", noise, [1, facts.draws, told.dims[2] * facts.hop_length]) };
  const speech = (await sampler.run(feeds)).speech.data.slice(0, length);
  const seconds = (performance.now() - start) / 1000;
  const spoken = speech.slice(0, samples.length);
  return { speech: spoken, mel: told.data, made: (await mel(speech)).data, seconds };
};

onmessage = async ({ data: { number, samples, seed, noise } }) => {
  try {
    postMessage({ number, result: samples ? await vocode(samples, seed, noise) : (await loaded).facts });
  } catch (error) {
    postMessage({ number, error: error?.message ?? `${error}` });
  }
};
