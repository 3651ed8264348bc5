"use strict";
// Without this script each sound has the browser's own player; with it the spectrogram is the player.
for (const card of document.querySelectorAll(".sound")) {
  const audio = card.querySelector("audio");
  const button = card.querySelector("button");
  const picture = card.querySelector(".picture");
  const seconds = Number(audio.dataset.seconds);

  const showPosition = () => {
    card.style.setProperty("--position", Math.min(audio.currentTime / seconds, 1));
    if (!audio.paused) requestAnimationFrame(showPosition);
  };
  const seek = (time) => {
    // Before anything is loaded this is where playing will begin; loading anew would stop what is about to play.
    audio.currentTime = Math.min(Math.max(time, 0), seconds);
    showPosition();
  };
  const play = () => {
    for (const other of document.querySelectorAll("audio")) if (other !== audio) other.pause();
    audio.play().catch((error) => {
      if (error.name !== "AbortError") card.classList.add("unplayable"); // AbortError: paused before it began
    });
  };

  audio.controls = false;
  button.hidden = false;
  card.classList.add("scripted");
  button.addEventListener("click", () => (audio.paused ? play() : audio.pause()));
  button.addEventListener("keydown", (event) => {
    const direction = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!direction || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    seek(audio.currentTime + (direction * seconds) / 10);
  });
  picture.addEventListener("click", (event) => {
    const box = picture.getBoundingClientRect();
    seek(((event.clientX - box.left) / box.width) * seconds);
    play();
  });
  for (const name of ["play", "pause", "ended"]) {
    audio.addEventListener(name, () => {
      const playing = !audio.paused && !audio.ended;
      card.classList.toggle("playing", playing);
      button.setAttribute("aria-pressed", String(playing));
      if (name === "ended") audio.currentTime = 0;
      showPosition();
    });
  }
}
