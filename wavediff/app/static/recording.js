// Recordings as the browser reads and writes them; both pages use it.

// The bytes of a recording -> its first samples at `rate` [Hz], so many at most, the mean of its channels. What is no
// recording throws `complaint`.
export const decoded = async (bytes, rate, complaint, most = Infinity) => {
  const context = new OfflineAudioContext(1, 1, rate);
  const audio = await context.decodeAudioData(bytes).catch(() => {
    throw new Error(complaint);
  });
  const mixed = new Float32Array(Math.min(audio.length, most));
  for (let channel = 0; channel < audio.numberOfChannels; channel++) {
    const values = audio.getChannelData(channel);
    for (let index = 0; index < mixed.length; index++) mixed[index] += values[index] / audio.numberOfChannels;
  }
  return mixed;
};

// 16-bit WAV: a header of 44 bytes, then the samples, all little-endian.
export const wav = (samples, rate) => {
  const view = new DataView(new ArrayBuffer(44 + 2 * samples.length));
  const words = [[0, 0x46464952], [4, 36 + 2 * samples.length], [8, 0x45564157], [12, 0x20746d66], [16, 16], [20, 0x10001],
    [24, rate], [28, 2 * rate], [32, 0x100002], [36, 0x61746164], [40, 2 * samples.length]];
  for (const [offset, word] of words) view.setUint32(offset, word, true);
  samples.forEach((value, index) => view.setInt16(44 + 2 * index, Math.max(-32768, Math.min(32767, Math.round(32768 * value))), true));
  return new Blob([view], { type: "audio/wav" });
};
