"use strict";
const element = (id) => document.getElementById(id);
const make = (tag, attributes = {}, ...children) => {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
};
const picture = (event) => `data:image/webp;base64,${event.picture}`;
const sound = (event) => `data:audio/wav;base64,${event.audio}`;
const duration = (seconds) => `${seconds.toFixed(seconds < 10 ? 2 : 1)} s`;

// Errors, and what goes on.

const complain = (message) => {
  element("alert-text").textContent = message;
  element("alert").hidden = false;
};
element("alert-close").addEventListener("click", () => (element("alert").hidden = true));

const progress = element("progress");
const showProgress = (text, done) => {
  element("status").hidden = false;
  element("status-text").textContent = text;
  progress.classList.toggle("waiting", done === undefined);
  progress.style.setProperty("--done", done ?? 1);
};

let running = null;
element("cancel").addEventListener("click", () => running?.abort());

// Ask the service, and hand over its events as they come.
const ask = async (address, options, onEvent) => {
  running?.abort();
  const own = (running = new AbortController());
  element("alert").hidden = true;
  showProgress("Waiting for the model …");
  try {
    const answer = await fetch(address, { ...options, method: "POST", signal: own.signal });
    if (!answer.ok) {
      const told = await answer.json().catch(() => ({}));
      throw new Error(told.error ?? `The service answered ${answer.status}.`);
    }
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) break;
      const lines = (rest + value).split("\n");
      rest = lines.pop();
      for (const line of lines) {
        const event = JSON.parse(line);
        if (event.event === "error") throw new Error(event.message);
        if (running === own) onEvent(event);
      }
    }
  } catch (error) {
    if (error.name === "AbortError") return;
    complain(error instanceof TypeError ? "The service does not answer; is wavediff serve still running?" : error.message);
  } finally {
    if (running === own) {
      running = null;
      element("status").hidden = true;
    }
  }
};

// One player at a time.

const players = new Set();
const follow = (audio, show) => {
  players.add(audio);
  const tick = () => {
    show();
    if (!audio.paused) requestAnimationFrame(tick);
  };
  for (const name of ["play", "pause", "ended", "seeked"]) audio.addEventListener(name, tick);
};
const play = (audio) => {
  for (const other of players) if (other !== audio) other.pause();
  audio.play().catch((error) => {
    if (error.name !== "AbortError") complain("This browser does not play the sound; save it instead.");
  });
};
const at = (event) => {
  const box = event.currentTarget.getBoundingClientRect();
  return Math.min(Math.max((event.clientX - box.left) / box.width, 0), 1);
};

// The steps from noise to sound.

class Film {
  constructor(place) {
    this.place = place;
    this.place.hidden = true;
    this.caption = make("span");
    this.image = make("img", { alt: "Spectrogram of this step", width: 480, height: 192 });
    this.strip = make("div", { class: "strip", role: "group", "aria-label": "Steps" });
    place.replaceChildren(make("h2", {}, "From noise to sound ", this.caption), this.image, this.strip);
  }
  add(event) {
    const thumbnail = make("img", { src: picture(event), alt: "", width: 480, height: 192 });
    const button = make("button", { type: "button", "aria-pressed": "false" }, thumbnail, event.name);
    button.addEventListener("click", () => this.show(button, event));
    button.addEventListener("keydown", (pressed) => {
      const next = { ArrowLeft: button.previousElementSibling, ArrowRight: button.nextElementSibling }[pressed.key];
      if (next) (pressed.preventDefault(), next.focus(), next.click());
    });
    this.strip.append(button);
    this.place.hidden = false;
    this.show(button, event);
  }
  show(button, event) {
    for (const other of this.strip.children) other.setAttribute("aria-pressed", String(other === button));
    this.image.src = picture(event);
    this.caption.textContent = event.name;
  }
}

// Speech.

const compare = element("compare");
const sides = { before: new Audio(), after: new Audio() };
const figures = Object.fromEntries([...compare.querySelectorAll("figure")].map((figure) => [figure.dataset.side, figure]));
const radios = [...compare.querySelectorAll(".switch button")];
let heard = "after";

const showPosition = () => {
  const audio = sides[heard];
  const share = audio.duration ? audio.currentTime / audio.duration : 0;
  for (const figure of Object.values(figures)) figure.style.setProperty("--position", share);
  compare.querySelector(".time").textContent = audio.duration ? `${audio.currentTime.toFixed(1)} / ${audio.duration.toFixed(1)} s` : "";
  compare.querySelector(".play").setAttribute("aria-pressed", String(!audio.paused && !audio.ended));
};
for (const audio of Object.values(sides)) {
  follow(audio, showPosition);
  audio.addEventListener("loadedmetadata", showPosition);
}
const hear = (side) => {
  const [from, to] = [sides[heard], sides[side]];
  if (side !== heard && to.src) {
    const playing = !from.paused;
    to.currentTime = Math.min(from.currentTime, to.duration || 0);
    from.pause();
    heard = side;
    if (playing) play(to);
  }
  for (const radio of radios) {
    const chosen = radio.dataset.side === heard;
    radio.setAttribute("aria-checked", String(chosen));
    radio.tabIndex = chosen ? 0 : -1;
  }
  for (const [name, figure] of Object.entries(figures)) figure.classList.toggle("heard", name === heard);
  showPosition();
};
for (const radio of radios) {
  radio.addEventListener("click", () => hear(radio.dataset.side));
  radio.addEventListener("keydown", (event) => {
    if (!["ArrowLeft", "ArrowRight"].includes(event.key)) return;
    hear(heard === "before" ? "after" : "before");
    radios.find((other) => other.dataset.side === heard).focus();
  });
}
compare.querySelector(".play").addEventListener("click", () => {
  const audio = sides[heard];
  if (audio.paused) play(audio);
  else audio.pause();
});
for (const [side, figure] of Object.entries(figures)) {
  figure.addEventListener("click", (event) => {
    const share = at(event);
    hear(side);
    sides[heard].currentTime = share * (sides[heard].duration || 0);
    play(sides[heard]);
  });
}
const setSide = (side, event) => {
  figures[side].hidden = radios.find((radio) => radio.dataset.side === side).hidden = !event;
  sides[side].pause();
  if (event) {
    sides[side].src = sound(event);
    figures[side].querySelector("img").src = picture(event);
  } else sides[side].removeAttribute("src");
};

let source = null; // a file, or "example"
const MEL = /\.(npy|safetensors)$/i;
const KNOWN = /\.(wav|flac|ogg|oga|mp3|aiff?|aifc|au|snd|caf|w64|npy|safetensors)$/i;

const RATE = 44100; // [Hz]

// What the service does not read but the browser does (M4A, WebM, ...) goes as 16-bit WAV.
const readable = async (file) => {
  if (KNOWN.test(file.name)) return file;
  const { decoded, wav } = await import("./recording.js");
  const complaint = `${file.name}: neither this browser nor wavediff reads this kind of file; convert it to WAV.`;
  return wav(await decoded(await file.arrayBuffer(), RATE, complaint), RATE);
};

const vocode = async () => {
  if (!source) return;
  const example = source === "example";
  const query = new URLSearchParams({ steps: element("steps").value, seed: element("seed").value || "0" });
  if (example) query.set("example", "1");
  if (!example && MEL.test(source.name) && element("dialect").value) query.set("mel_spec", element("dialect").value);
  let body;
  try {
    body = example ? undefined : await readable(source);
  } catch (error) {
    complain(error.message);
    return;
  }
  if (body && body.size > limits.max_bytes) {
    complain(`${source.name}: has ${(body.size / 1e6).toFixed(0)} MB, ${limits.max_bytes / 1e6} MB are the most; cut it.`);
    return;
  }
  let film = null;
  await ask(`/api/vocode?${query}`, { body, headers: { "Content-Type": "application/octet-stream" } }, (event) => {
    if (film === null) {
      film = new Film(element("speech-film"));
      element("speech-result").hidden = false;
      element("speech-result").classList.add("fresh");
      setSide("before", event.event === "before" ? event : null);
      setSide("after", null);
      element("speech-notes").replaceChildren();
    }
    if (event.event === "before") {
      heard = "before";
      hear("before");
      showProgress("Vocoding …");
    } else if (event.event === "step") {
      film.add(event);
      showProgress(`Drawing ${event.name}`, event.number / event.of);
    } else if (event.event === "after") {
      setSide("after", event);
      heard = "after";
      hear("after");
      compare.querySelector(".save").href = sound(event);
      const speed = event.seconds / event.elapsed;
      element("speech-numbers").replaceChildren(
        make("strong", {}, duration(event.seconds)), ` of speech in `, make("strong", {}, duration(event.elapsed)),
        ` (${speed.toFixed(1)} times as fast as it plays), ${event.evaluations} steps, ${event.sample_rate.toLocaleString("en")} Hz`,
      );
      element("speech-notes").replaceChildren(...event.notes.map((note) => make("li", {}, note)));
    }
  });
};

const choose = (chosen) => {
  source = chosen;
  element("file-name").textContent = chosen === "example" ? "The bundled example" : chosen.name;
  element("file-hint").textContent = "drop another, or choose one";
  element("vocode").disabled = false;
  element("dialect-label").hidden = chosen === "example" || !MEL.test(chosen.name);
  vocode();
};
const drop = element("drop");
element("file").addEventListener("change", (event) => event.target.files.length && choose(event.target.files[0]));
for (const name of ["dragenter", "dragover", "dragleave", "drop"]) {
  document.addEventListener(name, (event) => {
    event.preventDefault(); // or the browser would open the file instead of the page
    drop.classList.toggle("over", name === "dragenter" || name === "dragover");
  });
}
document.addEventListener("drop", (event) => {
  const file = event.dataTransfer?.files[0];
  if (!file) return;
  select("speech");
  choose(file);
});
element("example").addEventListener("click", () => choose("example"));
element("speech-form").addEventListener("submit", (event) => (event.preventDefault(), vocode()));

// Sounds.

const addCard = (event, about) => {
  const audio = new Audio(sound(event));
  const image = make("img", { src: picture(event), alt: `Spectrogram: ${about.label}`, width: 480, height: 192 });
  const frame = make("div", { class: "picture" }, image);
  const button = make("button", { type: "button", class: "play", "aria-label": `Play ${about.label}`, "aria-pressed": "false" });
  const save = make("a", { class: "save", download: `${about.name}.wav`, href: sound(event) }, "Save");
  const facts = make("small", {}, `${about.origin}, ${duration(event.seconds)}, made in ${duration(event.elapsed)}`);
  const words = make("div", { class: "about" }, about.label, facts);
  const changes = make("div", { class: "changes" });
  const change = (name, title, more) => {
    const button = make("button", { type: "button", class: "quiet", title }, name);
    button.addEventListener("click", () => makeSound(more()));
    changes.append(button);
  };
  const { label, wanted } = about;
  if (!wanted.loop) {
    const root = wanted.vary ?? wanted.seed;
    change("Vary", "Another sound of this family", () => {
      const seed = fresh();
      const varied = { ...wanted, fill_from: null, vary: root, strength: 0.3, seed };
      return { label, name: `${label}-${root}-near-${seed}`, origin: `near seed ${root}`, wanted: varied };
    });
    change("New end", "Make anew what comes after the position; click on the picture to set it", () => {
      const [start, seed] = [audio.ended || !audio.currentTime ? event.seconds / 2 : audio.currentTime, fresh()];
      const filled = { ...wanted, fill_from: Math.min(start, event.seconds - 0.05), fill_seed: seed };
      return { label, name: `${about.name}-end-${seed}`, origin: `${about.origin}, anew from ${duration(start)}`, wanted: filled };
    });
  }
  changes.append(save);
  audio.loop = Boolean(wanted.loop);
  follow(audio, () => {
    frame.style.setProperty("--position", audio.currentTime / event.seconds);
    button.setAttribute("aria-pressed", String(!audio.paused && !audio.ended));
  });
  button.addEventListener("click", () => (audio.paused ? play(audio) : audio.pause()));
  frame.addEventListener("click", (pressed) => {
    audio.currentTime = at(pressed) * event.seconds;
    play(audio);
  });
  element("cards").prepend(make("article", { class: "card" }, frame, make("div", { class: "bar" }, button, words), changes));
  element("save-all").hidden = element("cards").children.length < 2;
  play(audio);
};
element("save-all").addEventListener("click", () => document.querySelectorAll(".card .save").forEach((save) => save.click()));

let drawn = 0; // variations so far: each has a seed of its own
const fresh = () => (drawn += 1);

// Ask for one sound; true if it was made. `part` of `parts` is told.
const makeSound = async (about, part = 0, parts = 1) => {
  const body = JSON.stringify(about.wanted);
  let [film, made] = [null, false];
  await ask("/api/generate", { body, headers: { "Content-Type": "application/json" } }, (event) => {
    if (event.event === "progress") showProgress(`Sound ${part + 1} of ${parts}`, (part + event.done / event.of) / parts);
    else if (event.event === "step") (film ??= new Film(element("sounds-film"))).add(event);
    else if (event.event === "after") made = !addCard(event, about);
  });
  return made;
};
element("sounds-form").addEventListener("submit", async (submitted) => {
  submitted.preventDefault();
  const chosen = document.querySelector("#labels input:checked");
  const [first, count] = [Number(element("sound-seed").value) || 0, Number(element("count").value)];
  const wanted = {
    label: chosen?.value || null,
    seconds: Number(element("seconds").value),
    steps: Number(element("sound-steps").value),
    guidance: chosen?.value ? Number(element("guidance").value) : null,
    loop: element("loop").checked,
  };
  for (let number = 0; number < count; number++) {
    const [label, seed] = [chosen?.value || "any", first + number];
    const about = { label, name: `${label}-${seed}`, origin: `seed ${seed}`, wanted: { ...wanted, seed } };
    if (!(await makeSound(about, number, count))) return; // stopped, or an error that was shown
  }
});

// Choices.

for (const dice of document.querySelectorAll(".dice")) {
  dice.addEventListener("click", () => (element(dice.dataset.for).value = Math.floor(Math.random() * 1e6)));
}
const units = { seconds: " s" };
for (const range of document.querySelectorAll("input[type=range]")) {
  const show = () => (element(`${range.id}-value`).textContent = range.value + (units[range.id] ?? ""));
  range.addEventListener("input", show);
  range.refresh = show;
  show();
}
const tabs = [...document.querySelectorAll("[role=tab]")];
const select = (name) => {
  for (const tab of tabs) {
    const chosen = tab.getAttribute("aria-controls") === name;
    tab.setAttribute("aria-selected", String(chosen));
    tab.tabIndex = chosen ? 0 : -1;
    element(tab.getAttribute("aria-controls")).hidden = !chosen;
  }
};
for (const tab of tabs) {
  tab.addEventListener("click", () => select(tab.getAttribute("aria-controls")));
  tab.addEventListener("keydown", (event) => {
    if (!["ArrowLeft", "ArrowRight"].includes(event.key)) return;
    const other = tabs.find((candidate) => candidate !== tab);
    other.focus();
    other.click();
  });
}

let limits = { max_bytes: Infinity };
fetch("/api/facts").then((answer) => answer.json()).then((facts) => {
  limits = facts;
  const { vocoder, generator } = facts;
  element("steps").max = vocoder.most_steps;
  element("steps").value = vocoder.default_steps;
  element("sound-steps").value = generator.default_steps;
  element("seconds").value = generator.default_seconds;
  for (const range of document.querySelectorAll("input[type=range]")) range.refresh();
  element("dialect").append(...facts.mel_specs.map((name) => make("option", { value: name }, name)));
  element("speech-facts").textContent =
    `WAV, FLAC, OGG, MP3, AIFF and what your browser decodes; mels as .npy or .safetensors, of ${vocoder.mel_spec} unless they say ` +
    `otherwise; up to ${facts.max_seconds} s and ${facts.max_bytes / 1e6} MB. Nothing leaves the machine that serves this page.`;
  const names = ["", ...generator.labels];
  element("labels").append(...names.map((name, index) => {
    const input = make("input", { type: "radio", name: "label", value: name });
    input.checked = index === Math.max(names.indexOf("glass"), 0);
    return make("label", {}, input, make("span", {}, name || "any"));
  }));
  document.documentElement.dataset.ready = "";
}).catch(() => complain("The service does not answer; is wavediff serve still running?"));
