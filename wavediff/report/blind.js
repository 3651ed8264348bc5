// The blind test: setup, trials, results. The page leaves the document meanwhile, and every name of a system with it.
{
  const page = document.getElementById("page");
  const main = document.getElementById("clips");
  const title = document.title;
  const key = `wavediff-blind-${main.dataset.page}`;
  const systems = [...document.querySelectorAll("#summary tbody tr")].map((row) => row.dataset.name);
  const clips = [...main.querySelectorAll(".clip")].map((section) => ({
    name: section.dataset.name,
    sounds: new Map([...section.querySelectorAll("audio")].map((audio) => [Number(audio.dataset.system), audio])),
  }));
  let view = page; // what is in the document
  let scroll = 0;

  const isState = (state) => Array.isArray(state?.trials) && Array.isArray(state.answers) && ["abx", "preference"].includes(state.mode);
  let memory = null;
  const load = () => {
    try {
      const state = JSON.parse(localStorage.getItem(key));
      return isState(state) ? state : memory;
    } catch {
      return memory;
    }
  };
  const save = (state) => {
    memory = state;
    try {
      localStorage.setItem(key, JSON.stringify(state));
    } catch {
      // Some browsers give no storage to a page that is a file: then the answers last as long as it is open.
    }
  };

  const show = (next, name) => {
    for (const audio of view.querySelectorAll("audio")) audio.pause();
    if (view === page) scroll = window.scrollY;
    view.replaceWith(next);
    view = next;
    document.title = name;
    window.scrollTo(0, next === page ? scroll : 0);
  };
  const copyOf = (id) => document.getElementById(id).content.firstElementChild.cloneNode(true);
  const element = (name, text = "", className = "") => Object.assign(document.createElement(name), { textContent: text, className });
  const leave = () => show(page, title);
  const offerToResume = (section, state) => {
    const resume = section.querySelector(".resume");
    resume.hidden = !state || state.answers.length >= state.trials.length;
    if (resume.hidden) return;
    resume.textContent = `Go on (${state.answers.length} of ${state.trials.length} judged)`;
    resume.addEventListener("click", () => showTrial(state));
  };

  const showSetup = () => {
    const section = copyOf("blind-setup");
    const form = section.querySelector("form");
    for (const [number, name] of systems.entries()) {
      const label = element("label");
      const box = Object.assign(element("input"), { type: "checkbox", name: "system", value: number, checked: true });
      label.append(box, " ", element("bdi", name));
      section.querySelector(".systems").append(label);
    }
    const pairs = () => pairsOf(clips, [...form.querySelectorAll("[name=system]:checked")].map((box) => Number(box.value)));
    const count = form.elements.namedItem("count");
    const begin = form.querySelector("button");
    const showPairs = () => {
      const number = pairs().length;
      begin.disabled = number === 0;
      section.querySelector(".pairs").textContent = number
        ? `${number} ${number === 1 ? "pair" : "pairs"} of sounds; with more trials than that, pairs come again.`
        : "Choose two systems that have a clip in common.";
    };
    count.value = Math.min(20, Math.max(pairs().length, 1));
    form.addEventListener("change", showPairs);
    showPairs();
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      const mode = form.elements.namedItem("mode").value;
      const state = { mode, begun: new Date().toISOString(), trials: plan(pairs(), Number(count.value), mode), answers: [] };
      save(state);
      showTrial(state);
    });
    offerToResume(section, load());
    section.querySelector(".leave").addEventListener("click", leave);
    show(section, "Blind test");
  };

  const showTrial = (state) => {
    const number = state.answers.length;
    if (number >= state.trials.length) return showResults(state);
    const trial = state.trials[number];
    const abx = state.mode === "abx";
    const section = copyOf("blind-trial");
    section.querySelector("p").textContent = `Trial ${number + 1} of ${state.trials.length}`;
    Object.assign(section.querySelector("progress"), { max: state.trials.length, value: number });
    section.querySelector("h1").textContent = abx ? "Is X the same as A or as B?" : "Which is better?";
    const range = section.querySelector("input");
    const hint = section.querySelector(".hint");
    const urls = equallyLoud([trial.a, trial.b].map((system) => clips[trial.clip].sounds.get(system).src));
    const sources = { a: urls[0], b: urls[1], ...(abx && { x: urls[trial.x === "a" ? 0 : 1] }) };
    const unheard = new Set(Object.keys(sources));
    const players = {};
    let current = null;

    const showPosition = () => {
      if (current?.duration) range.value = current.currentTime / current.duration;
      if (current && !current.paused && current.isConnected) requestAnimationFrame(showPosition);
    };
    const listen = (which) => {
      if (current === players[which] && !current.paused) return current.pause();
      const position = current?.ended ? 0 : (current?.currentTime ?? 0);
      if (current !== players[which]) current?.pause();
      current = players[which];
      takeOver(current, position);
    };
    const choices = (abx ? ["a", "b"] : ["a", "none", "b"]).map((choice) => {
      const label = abx ? `X is ${choice.toUpperCase()}` : choice === "none" ? "No preference" : `${choice.toUpperCase()} is better`;
      const button = element("button", label, "plain");
      Object.assign(button, { type: "button", disabled: true });
      button.dataset.choice = choice;
      button.addEventListener("click", () => {
        state.answers.push(choice);
        save(state);
        showTrial(state);
      });
      return button;
    });
    const showHint = () => {
      const left = [...unheard].map((which) => which.toUpperCase());
      hint.textContent = left.length ? `Not heard yet: ${left.join(", ")}` : `Press again to pause. Keys: a, b${abx ? ", x" : ""}, space.`;
      for (const button of choices) button.disabled = left.length > 0;
    };
    for (const [which, source] of Object.entries(sources)) {
      const player = (players[which] = Object.assign(element("audio"), { preload: "auto", src: source }));
      const button = element("button", which.toUpperCase(), "plain side");
      Object.assign(button, { type: "button" });
      player.dataset.which = button.dataset.which = which;
      button.addEventListener("click", () => listen(which));
      for (const name of ["play", "pause", "ended", "seeked"]) {
        player.addEventListener(name, () => {
          if (name === "play") unheard.delete(which);
          button.setAttribute("aria-pressed", String(!player.paused && !player.ended));
          showHint();
          showPosition();
        });
      }
      section.querySelector(".sides").append(button, player);
    }
    range.addEventListener("input", () => {
      current ??= players.a;
      if (current.duration) takeOver(current, range.value * current.duration, false);
    });
    section.querySelector(".choices").append(...choices);
    section.querySelector(".stop").addEventListener("click", () => showResults(state));
    section.listen = (pressed) => (pressed === " " ? current?.pause() : players[pressed] && listen(pressed));
    showHint();
    show(section, "Blind test");
  };

  const showResults = (state) => {
    const section = copyOf("blind-results");
    const results = { page: title, ...resultsOf(state, clips, systems) };
    const abx = state.mode === "abx";
    section.querySelector(".progress").textContent = `${results.answers.length} of ${results.planned} trials judged`;
    const fill = (table, head, rows) => {
      const row = (cells, name) => {
        const line = element("tr");
        line.append(...cells.map((cell) => element(name)));
        cells.forEach((cell, column) => line.children[column].append(element("bdi", String(cell ?? "–"))));
        return line;
      };
      table.tHead.append(row(head, "th"));
      table.tBodies[0].append(...rows.map((cells) => row(cells, "td")));
    };
    const pairs = results.pairs.map((pair) => {
      const [one, other] = pair.systems;
      const p = pair.p.toPrecision(3);
      return abx ? [one, other, pair.correct, pair.wrong, p] : [one, pair.wins[0], pair.no_preference, pair.wins[1], other, p];
    });
    const head = abx ? ["system", "system", "correct", "wrong", "p"] : ["system", "wins", "neither", "wins", "system", "p"];
    fill(section.querySelector("#pairs"), head, pairs);
    const shown = results.answers.map(({ trial, clip, a, b, x, choice, preferred, correct }) =>
      abx ? [trial, clip, a, b, x, choice.toUpperCase(), correct ? "correct" : "wrong"] : [trial, clip, a, b, preferred ?? "no preference"],
    );
    fill(section.querySelector("#answers"), abx ? ["trial", "clip", "A", "B", "X", "answer", ""] : ["trial", "clip", "A", "B", "preferred"], shown);
    const files = [
      [JSON.stringify(results, null, 2) + "\n", "application/json"],
      [commaSeparated(results.answers), "text/csv"],
    ];
    section.querySelectorAll("a[download]").forEach((link, place) => {
      link.href = URL.createObjectURL(new Blob([files[place][0]], { type: files[place][1] }));
    });
    offerToResume(section, state);
    section.querySelector(".again").addEventListener("click", showSetup);
    section.querySelector(".leave").addEventListener("click", leave);
    show(section, "Results of the blind test");
  };

  document.addEventListener("keydown", (event) => {
    if (!view.listen || event.altKey || event.ctrlKey || event.metaKey) return;
    if (event.key === " " && event.target instanceof Element && event.target.closest("button")) return;
    const pressed = event.key.toLowerCase();
    if ([" ", "a", "b", "x"].includes(pressed)) {
      event.preventDefault();
      view.listen(pressed);
    }
  });
  const begin = document.getElementById("begin");
  begin.closest("p").hidden = false;
  begin.addEventListener("click", showSetup);
}
