// Lays a class's share at each place over a picture, as belvedere.heatmaps does: grey where it says nothing, and from
// violet over red to yellow the more it speaks for the class. Knows pixels; does not know the page.

const SIDE = 640; // longer side that is drawn, pixels
const OPACITY = 0.75; // of the strongest
const STRENGTHS = [0, 0.35, 0.7, 1];
const COLOURS = [[70, 0, 110], [190, 30, 90], [255, 130, 30], [255, 240, 120]];

/**
 * Draws shares, rows of numbers from 0 to 1, over an image into a canvas.
 * `input` is the model's {height, width, resize}: with "crop" it saw only the middle of the picture.
 */
export function drawHeatmap(canvas, image, shares, input) {
  const scale = Math.min(1, SIDE / Math.max(image.naturalWidth, image.naturalHeight));
  const width = (canvas.width = Math.max(1, Math.round(image.naturalWidth * scale)));
  const height = (canvas.height = Math.max(1, Math.round(image.naturalHeight * scale)));
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(image, 0, 0, width, height);
  const picture = context.getImageData(0, 0, width, height);
  const seen = seenPart(width, height, input);
  const pixels = picture.data;
  for (let y = 0, at = 0; y < height; y += 1) {
    for (let x = 0; x < width; x += 1, at += 4) {
      const strength = shareAt(shares, (x + 0.5 - seen.left) / seen.width, (y + 0.5 - seen.top) / seen.height);
      const grey = ((pixels[at] + pixels[at + 1] + pixels[at + 2]) / 3) * 0.8;
      const opacity = OPACITY * strength;
      const colour = colourOf(strength);
      for (let k = 0; k < 3; k += 1) {
        const base = grey + (pixels[at + k] - grey) * (0.35 + 0.65 * strength);
        pixels[at + k] = base * (1 - opacity) + colour[k] * opacity;
      }
    }
  }
  context.putImageData(picture, 0, 0);
}

function seenPart(width, height, input) {
  if (input.resize !== "crop") return { left: 0, top: 0, width, height };
  const ratio = input.width / input.height;
  const seen = width / height > ratio ? { width: height * ratio, height } : { width, height: width / ratio };
  return { ...seen, left: (width - seen.width) / 2, top: (height - seen.height) / 2 };
}

function shareAt(shares, across, down) {
  if (across < 0 || across > 1 || down < 0 || down > 1) return 0;
  const rows = shares.length;
  const columns = shares[0].length;
  const y = Math.min(Math.max(down * rows - 0.5, 0), rows - 1);
  const x = Math.min(Math.max(across * columns - 0.5, 0), columns - 1);
  const top = Math.floor(y);
  const left = Math.floor(x);
  const below = Math.min(top + 1, rows - 1);
  const right = Math.min(left + 1, columns - 1);
  const upper = shares[top][left] + (shares[top][right] - shares[top][left]) * (x - left);
  const lower = shares[below][left] + (shares[below][right] - shares[below][left]) * (x - left);
  return upper + (lower - upper) * (y - top);
}

function colourOf(strength) {
  let place = 0;
  while (place < STRENGTHS.length - 2 && strength > STRENGTHS[place + 1]) place += 1;
  const part = (strength - STRENGTHS[place]) / (STRENGTHS[place + 1] - STRENGTHS[place]);
  return COLOURS[place].map((value, k) => value + (COLOURS[place + 1][k] - value) * part);
}
