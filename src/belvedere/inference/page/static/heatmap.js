// Draws the heatmap of a class over an image, with the colors of belvedere's own heatmaps: gray, then violet, red and
// yellow with increasing evidence for the class.

const MAX_SIZE = 640; // longer side of the canvas, pixels
const OPACITY = 0.75; // at the highest value
const STRENGTHS = [0, 0.35, 0.7, 1];
const COLORS = [[70, 0, 110], [190, 30, 90], [255, 130, 30], [255, 240, 120]];

/**
 * Draws a heatmap, rows of numbers from 0 to 1, over an image into a canvas.
 * `preprocess` is the model's {height, width, resize}: with "crop" the heatmap covers the center of the image,
 * with "letterbox" the image and its padding.
 */
export function drawHeatmap(canvas, image, heatmap, preprocess) {
  const scale = Math.min(1, MAX_SIZE / Math.max(image.naturalWidth, image.naturalHeight));
  const width = (canvas.width = Math.max(1, Math.round(image.naturalWidth * scale)));
  const height = (canvas.height = Math.max(1, Math.round(image.naturalHeight * scale)));
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(image, 0, 0, width, height);
  const imageData = context.getImageData(0, 0, width, height);
  const visible = visibleRegion(width, height, preprocess);
  const pixels = imageData.data;
  for (let y = 0, at = 0; y < height; y += 1) {
    for (let x = 0; x < width; x += 1, at += 4) {
      const strength = valueAt(heatmap, (x + 0.5 - visible.left) / visible.width, (y + 0.5 - visible.top) / visible.height);
      const gray = ((pixels[at] + pixels[at + 1] + pixels[at + 2]) / 3) * 0.8;
      const opacity = OPACITY * strength;
      const color = colorOf(strength);
      for (let k = 0; k < 3; k += 1) {
        const base = gray + (pixels[at + k] - gray) * (0.35 + 0.65 * strength);
        pixels[at + k] = base * (1 - opacity) + color[k] * opacity;
      }
    }
  }
  context.putImageData(imageData, 0, 0);
}

function visibleRegion(width, height, preprocess) {
  if (preprocess.resize === "stretch") return { left: 0, top: 0, width, height };
  const ratio = preprocess.width / preprocess.height;
  const isCrop = preprocess.resize === "crop";
  const size = width / height > ratio === isCrop ? { width: height * ratio, height } : { width, height: width / ratio };
  return { ...size, left: (width - size.width) / 2, top: (height - size.height) / 2 };
}

function valueAt(heatmap, across, down) {
  if (across < 0 || across > 1 || down < 0 || down > 1) return 0;
  const rows = heatmap.length;
  const columns = heatmap[0].length;
  const y = Math.min(Math.max(down * rows - 0.5, 0), rows - 1);
  const x = Math.min(Math.max(across * columns - 0.5, 0), columns - 1);
  const top = Math.floor(y);
  const left = Math.floor(x);
  const below = Math.min(top + 1, rows - 1);
  const right = Math.min(left + 1, columns - 1);
  const upper = heatmap[top][left] + (heatmap[top][right] - heatmap[top][left]) * (x - left);
  const lower = heatmap[below][left] + (heatmap[below][right] - heatmap[below][left]) * (x - left);
  return upper + (lower - upper) * (y - top);
}

function colorOf(strength) {
  let index = 0;
  while (index < STRENGTHS.length - 2 && strength > STRENGTHS[index + 1]) index += 1;
  const fraction = (strength - STRENGTHS[index]) / (STRENGTHS[index + 1] - STRENGTHS[index]);
  return COLORS[index].map((value, k) => value + (COLORS[index + 1][k] - value) * fraction);
}
