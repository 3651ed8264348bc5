// What a blind test asks and what its answers say; nothing here touches the page.

function shuffled(items) {
  const result = [...items];
  for (let last = result.length - 1; last > 0; last--) {
    const chosen = Math.floor(Math.random() * (last + 1));
    [result[last], result[chosen]] = [result[chosen], result[last]];
  }
  return result;
}

const coin = () => Math.random() < 0.5;

// Every pair of the chosen systems on every clip that both have.
function pairsOf(clips, chosen) {
  return clips.flatMap((clip, number) =>
    chosen.flatMap((one, index) =>
      chosen.slice(index + 1).flatMap((other) => (clip.sounds.has(one) && clip.sounds.has(other) ? [{ clip: number, a: one, b: other }] : [])),
    ),
  );
}

// So many trials in random order with random sides; all pairs come once before any comes again.
function plan(pairs, count, mode) {
  const trials = [];
  while (trials.length < count) trials.push(...shuffled(pairs));
  return trials.slice(0, count).map(({ clip, a, b }) => ({
    clip,
    ...(coin() ? { a, b } : { a: b, b: a }),
    x: mode === "abx" ? (coin() ? "a" : "b") : null,
  }));
}

// Two-sided p of `hits` in `count` (at most 1,000) fair coins: all outcomes that are no likelier.
function binomial(hits, count) {
  const fewer = Math.min(hits, count - hits);
  let probability = 0.5 ** count; // of k hits
  let tail = 0;
  for (let k = 0; k <= fewer; k++) {
    tail += probability;
    probability *= (count - k) / (k + 1);
  }
  return Math.min(1, 2 * tail);
}

// The answers by name, and the wins of each pair with its p.
function resultsOf(state, clips, systems) {
  const answers = state.answers.map((choice, number) => {
    const { clip, a, b, x } = state.trials[number];
    const preferred = state.mode === "abx" || choice === "none" ? null : systems[{ a, b }[choice]];
    const correct = state.mode === "abx" ? choice === x : null;
    return { trial: number + 1, clip: clips[clip].name, a: systems[a], b: systems[b], x: x && systems[{ a, b }[x]], choice, preferred, correct };
  });
  const pairs = new Map();
  for (const [number, { preferred, correct }] of answers.entries()) {
    const both = [state.trials[number].a, state.trials[number].b].sort((one, other) => one - other);
    const names = both.map((system) => systems[system]);
    if (!pairs.has(both.join())) pairs.set(both.join(), { systems: names, wins: [0, 0], no_preference: 0, correct: 0, wrong: 0 });
    const pair = pairs.get(both.join());
    if (state.mode === "abx") pair[correct ? "correct" : "wrong"]++;
    else if (preferred === null) pair.no_preference++;
    else pair.wins[names.indexOf(preferred)]++;
  }
  return {
    mode: state.mode,
    begun: state.begun,
    planned: state.trials.length,
    answers,
    pairs: [...pairs.values()].map(({ systems: names, wins, no_preference, correct, wrong }) =>
      state.mode === "abx"
        ? { systems: names, correct, wrong, p: binomial(correct, correct + wrong) }
        : { systems: names, wins, no_preference, p: binomial(wins[0], wins[0] + wins[1]) },
    ),
  };
}

// RFC 4180. A leading apostrophe keeps a spreadsheet from running a name as a formula.
function commaSeparated(answers) {
  const columns = ["trial", "clip", "a", "b", "x", "choice", "preferred", "correct"];
  const cell = (value) => `"${String(value ?? "").replace(/^[=+\-@\t\r]/, "'$&").replaceAll('"', '""')}"`;
  return [columns, ...answers.map((answer) => columns.map((column) => answer[column]))].map((row) => row.map(cell).join() + "\r\n").join("");
}

// The 16-bit samples of a WAV file in a data URL: they follow 44 bytes of header, as the page's own writer leaves them.
function decoded(url) {
  const bytes = Uint8Array.from(atob(url.slice(url.indexOf(",") + 1)), (character) => character.charCodeAt(0));
  return { bytes, samples: new Int16Array(bytes.buffer, 44, (bytes.length - 44) >> 1) };
}

// The same sounds, all as loud as the softest. Their samples are scaled: some phones ignore a player's volume.
function equallyLoud(urls) {
  const sounds = urls.map(decoded);
  const levels = sounds.map(({ samples }) => Math.sqrt(samples.reduce((sum, sample) => sum + sample * sample, 0) / samples.length));
  const softest = Math.min(...levels.filter((level) => level > 0));
  return sounds.map(({ bytes, samples }, number) => {
    if (levels[number] > softest) samples.forEach((sample, place) => (samples[place] = Math.round((sample * softest) / levels[number])));
    let text = "";
    for (let start = 0; start < bytes.length; start += 0x8000) text += String.fromCharCode(...bytes.subarray(start, start + 0x8000));
    return `data:audio/wav;base64,${btoa(text)}`;
  });
}
