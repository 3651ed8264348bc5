// A clip's systems are heard one at a time from one place: each player takes over where the last one of its row was.
function takeOver(audio, position, sounding = true) {
  const go = () => {
    audio.currentTime = Math.min(position, audio.duration);
    if (sounding) audio.play().catch((error) => error.name === "AbortError" || console.error(error));
  };
  if (audio.readyState > 0) go();
  else {
    audio.addEventListener("loadedmetadata", go, { once: true });
    audio.load();
  }
}

{
  const page = document.getElementById("page");
  const main = document.getElementById("clips");
  const bar = document.getElementById("transport");
  const toggle = document.getElementById("toggle");
  const range = bar.querySelector("input[type=range]");
  const loop = bar.querySelector("input[type=checkbox]");
  const chips = bar.querySelector(".chips");
  const clips = [...main.querySelectorAll(".clip")];
  let current = null; // the player that is heard, or was last

  const rowOf = (audio) => audio.closest(".clip");
  const playersOf = (clip) => [...clip.querySelectorAll("audio")];

  const showPosition = () => {
    range.value = current.currentTime / Number(current.dataset.seconds);
    if (!current.paused) requestAnimationFrame(showPosition);
  };
  const showState = () => {
    const playing = !current.paused;
    toggle.classList.toggle("playing", playing);
    toggle.setAttribute("aria-pressed", String(playing));
    for (const chip of chips.children) {
      const chosen = chip.dataset.system === current.dataset.system;
      chip.setAttribute("aria-pressed", String(chosen));
      if (chosen) chips.scrollLeft = chip.offsetLeft - (chips.clientWidth - chip.offsetWidth) / 2;
    }
    showPosition();
  };
  const showClip = (clip) => {
    bar.querySelector("bdi").textContent = clip.dataset.name;
    chips.replaceChildren(
      ...playersOf(clip).map((audio) => {
        audio.preload = "auto"; // so that a change is not heard as a gap
        const chip = document.createElement("button");
        chip.type = "button";
        chip.className = "plain";
        chip.dataset.system = audio.dataset.system;
        const label = document.createElement("bdi");
        label.textContent = audio.getAttribute("aria-label");
        chip.append(audio.closest(".sound").querySelector(".key").cloneNode(true), label);
        chip.addEventListener("click", () => change(audio));
        return chip;
      }),
    );
    bar.hidden = false;
  };
  const change = (audio) => {
    if (!audio.paused) return;
    const position = current && current !== audio && rowOf(current) === rowOf(audio) ? current.currentTime : audio.currentTime;
    for (const other of page.querySelectorAll("audio")) if (other !== audio) other.pause();
    takeOver(audio, position);
  };

  for (const audio of page.querySelectorAll("audio")) {
    audio.addEventListener("play", () => {
      const previous = current;
      current = audio;
      if (!previous || rowOf(previous) !== rowOf(audio)) showClip(rowOf(audio));
      showState();
    });
    for (const name of ["pause", "ended", "seeked"]) audio.addEventListener(name, () => current === audio && showState());
  }
  // Ahead of the card's own handler, which would go on where this card, not its row, was left.
  page.addEventListener(
    "click",
    (event) => {
      const card = event.target.closest(".sound");
      if (!card || !event.target.closest("button")) return;
      const audio = card.querySelector("audio");
      if (!audio.paused || audio === current) return;
      event.stopPropagation();
      change(audio);
    },
    true,
  );
  document.addEventListener("keydown", (event) => {
    const typing = event.target instanceof Element && event.target.matches("select, input:not([type=range], [type=checkbox])");
    if (!page.isConnected || typing || event.altKey || event.ctrlKey || event.metaKey || !/^[1-9]$/.test(event.key)) return;
    const clip = current ? rowOf(current) : main.querySelector(".clip");
    const audio = clip.querySelector(`audio[data-system="${Number(event.key) - 1}"]`);
    if (audio) change(audio);
  });
  toggle.addEventListener("click", () => (current.paused ? takeOver(current, current.currentTime) : current.pause()));
  range.addEventListener("input", () => takeOver(current, range.value * Number(current.dataset.seconds), false));
  loop.addEventListener("change", () => {
    for (const audio of page.querySelectorAll("audio")) audio.loop = loop.checked;
  });

  const order = document.getElementById("order");
  order.closest("p").hidden = order.options.length < 2;
  order.addEventListener("change", () => {
    const { value, dataset } = order.selectedOptions[0];
    const worst = (clip) => (clip.hasAttribute(value) ? dataset.sign * clip.getAttribute(value) : -Infinity);
    main.append(...(value ? [...clips].sort((one, other) => worst(other) - worst(one) || 0) : clips));
  });

  for (const [column, head] of document.querySelectorAll("#summary [data-column]").entries()) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "plain";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const ascending = head.getAttribute("aria-sort") !== "ascending";
      for (const other of head.parentNode.children) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", ascending ? "ascending" : "descending");
      const body = document.querySelector("#summary tbody");
      const value = (row) => Number(row.cells[column].dataset.value ?? NaN);
      const compare = (one, other) => (column ? value(one) - value(other) : one.dataset.name < other.dataset.name ? -1 : 1);
      const rows = [...body.rows].sort((one, other) => (ascending ? 1 : -1) * compare(one, other));
      const known = (row) => column === 0 || !Number.isNaN(value(row));
      body.append(...rows.filter(known), ...rows.filter((row) => !known(row)));
    });
  }
}
