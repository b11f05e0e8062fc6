// Resizes images as Pillow does, to the last bit: with antialiasing, columns and rows one after the other, each
// computed with coefficients of 22 bits and rounded to whole levels.

const PADDING = 114; // gray level around a letterboxed image
const PRECISION = 22; // bits of a coefficient
const HALF = 1 << (PRECISION - 1);
const BAND_PIXELS = 1 << 20; // read at a time, to save memory
const FILTERS = { // support in pixels, and weight at a distance from 0 to it
  bilinear: [1, (x) => Math.max(0, 1 - x)],
  bicubic: [2, (x) => (x < 1 ? (1.5 * x - 2.5) * x * x + 1 : x < 2 ? (((x - 5) * x + 8) * x - 4) * -0.5 : 0)],
};

/**
 * Resizes an image to a model's input.
 * `image` is {width, height, rows}, where rows(top, count) returns RGBA levels of some rows.
 * `preprocess` is the model's {height, width, resize, interpolation}.
 * Returns RGB levels, (height, width, 3), as a Uint8Array.
 */
export function resizeImage(image, preprocess) {
  const { height, width, resize, interpolation } = preprocess;
  const result = new Uint8Array(height * width * 3).fill(PADDING);
  const isSame = image.width === width && image.height === height;
  const region = resize === "letterbox" && !isSame ? letterboxRegion(image, preprocess) : { top: 0, left: 0, height, width };
  const box = resize === "crop" ? cropBox(image, preprocess) : { left: 0, top: 0, right: image.width, bottom: image.height };
  const pixels = resample(image, region, box, FILTERS[interpolation]);
  for (let y = 0, from = 0; y < region.height; y += 1) {
    for (let x = 0, to = ((region.top + y) * width + region.left) * 3; x < region.width; x += 1, from += 4, to += 3) {
      for (let k = 0; k < 3; k += 1) result[to + k] = pixels[from + k];
    }
  }
  return result;
}

/** The region of a model's input that a letterboxed image fills, as PIL.ImageOps.pad has it. */
function letterboxRegion(image, { height, width }) {
  let [rows, columns] = [height, width];
  if (image.width / image.height > width / height) rows = Math.max(1, roundHalfEven((image.height / image.width) * width));
  else columns = Math.max(1, roundHalfEven((image.width / image.height) * height));
  return { top: roundHalfEven((height - rows) * 0.5), left: roundHalfEven((width - columns) * 0.5), height: rows, width: columns };
}

/** The center of an image that a model with the rule "crop" receives, as PIL.ImageOps.fit has it. */
function cropBox(image, { height, width }) {
  const ratio = width / height;
  const own = image.width / image.height;
  const columns = own > ratio ? ratio * image.height : image.width;
  const rows = own < ratio ? image.width / ratio : image.height;
  const left = (image.width - columns) * 0.5;
  const top = (image.height - rows) * 0.5;
  return { left, top, right: left + columns, bottom: top + rows };
}

function roundHalfEven(value) {
  const rounded = Math.round(value);
  return rounded - value === 0.5 && rounded % 2 ? rounded - 1 : rounded;
}

/** Resizes a box of an image to {height, width}; returns RGBA levels. */
function resample(image, { height, width }, box, filter) {
  const across = makeCoefficients(image.width, box.left, box.right, width, filter);
  const down = makeCoefficients(image.height, box.top, box.bottom, height, filter);
  if (across && down && image.height > height && 2 * (image.width - width) < image.height - height) {
    const resizedRows = new Uint8ClampedArray(height * image.width * 4); // Pillow 13 begins with the rows of tall images
    for (let y = 0; y < height; y += 1) {
      const window = image.rows(down.first[y], down.counts[y]);
      resizeRow(resizedRows, y, window, 0, image.width * 4, down, y);
    }
    return resizeColumns(resizedRows, height, image.width, across);
  }
  const resizedColumns = new Uint8ClampedArray(image.height * width * 4);
  const step = Math.max(1, Math.floor(BAND_PIXELS / image.width));
  for (let top = 0; top < image.height; top += step) {
    const count = Math.min(step, image.height - top);
    const band = image.rows(top, count);
    resizedColumns.set(across ? resizeColumns(band, count, image.width, across) : band, top * width * 4);
  }
  if (!down) return resizedColumns;
  const result = new Uint8ClampedArray(height * width * 4);
  for (let y = 0; y < height; y += 1) resizeRow(result, y, resizedColumns, down.first[y], width * 4, down, y);
  return result;
}

/** The coefficients of an axis of `size` pixels, of which start to end become `count`; null if nothing changes. */
function makeCoefficients(size, start, end, count, [radius, weigh]) {
  const [from, to] = [Math.fround(start), Math.fround(end)]; // Pillow's box is float32
  if (count === size && from === 0 && to === count) return null;
  const scale = Math.fround(to - from) / count;
  const stretch = Math.max(scale, 1);
  const support = radius * stretch;
  const length = Math.ceil(support) * 2 + 1;
  const first = new Int32Array(count);
  const counts = new Int32Array(count);
  const values = new Int32Array(count * length);
  for (let index = 0; index < count; index += 1) {
    const center = from + (index + 0.5) * scale;
    first[index] = Math.max(0, Math.trunc(center - support + 0.5));
    counts[index] = Math.min(size, Math.trunc(center + support + 0.5)) - first[index];
    const weights = Array.from({ length: counts[index] }, (_, k) => weigh(Math.abs((k + first[index] - center + 0.5) * (1 / stretch))));
    const total = weights.reduce((sum, weight) => sum + weight, 0);
    weights.forEach((weight, k) => {
      const value = (total === 0 ? weight : weight / total) * (1 << PRECISION);
      values[index * length + k] = Math.trunc(value < 0 ? value - 0.5 : value + 0.5);
    });
  }
  return { first, counts, values, length, count };
}

/** Resizes the columns of some rows. */
function resizeColumns(pixels, numRows, width, { first, counts, values, length, count }) {
  const result = new Uint8ClampedArray(numRows * count * 4);
  for (let y = 0, to = 0; y < numRows; y += 1) {
    for (let x = 0; x < count; x += 1, to += 4) {
      let [red, green, blue] = [HALF, HALF, HALF];
      for (let k = 0, from = (y * width + first[x]) * 4, at = x * length; k < counts[x]; k += 1, from += 4, at += 1) {
        red += pixels[from] * values[at];
        green += pixels[from + 1] * values[at];
        blue += pixels[from + 2] * values[at];
      }
      result[to] = red >> PRECISION; // the array clips it to 0 to 255
      result[to + 1] = green >> PRECISION;
      result[to + 2] = blue >> PRECISION;
    }
  }
  return result;
}

/** Writes row `y` of a result: the weighted mean of rows of `stride` bytes from row `start` on. */
function resizeRow(result, y, pixels, start, stride, { counts, values, length }, index) {
  const sums = new Int32Array(stride).fill(HALF);
  for (let k = 0; k < counts[index]; k += 1) {
    const weight = values[index * length + k];
    for (let x = 0, from = (start + k) * stride; x < stride; x += 1, from += 1) sums[x] += pixels[from] * weight;
  }
  for (let x = 0; x < stride; x += 1) result[y * stride + x] = sums[x] >> PRECISION;
}
