"use strict";
// All videos of a case run together: the button starts them at the same moment, and a jump in one is one in all.
document.querySelectorAll(".case").forEach((one) => {
  const videos = [...one.querySelectorAll("video")];
  const button = one.querySelector("button");
  if (!button) return;
  button.addEventListener("click", () => {
    const running = videos.some((video) => !video.paused);
    const place = videos[0].currentTime;
    videos.forEach((video) => {
      if (running) return video.pause();
      video.currentTime = place;
      video.play().catch(() => {});
    });
    button.textContent = running ? "play together" : "stop";
  });
  let leading = null;
  videos.forEach((video) => {
    video.addEventListener("pointerdown", () => { leading = video; });
    video.addEventListener("seeked", () => {
      if (video !== leading) return;
      leading = null;
      videos.forEach((other) => { if (other !== video) other.currentTime = video.currentTime; });
    });
  });
});
