// Decodes images with the browser's decoders, by the rules of belvedere: upright, transparency over white, colors as
// stored in the file.

const MAX_SIZE = 4096; // pixels, of a canvas: phones have limits, beyond which it stays empty
const IMAGE_ERRORS = ["InvalidStateError", "EncodingError"]; // of createImageBitmap, for images that it does not decode

/** The reason why an image has no prediction. */
export class ImageError extends Error {}

/** Decodes a file to {width, height, rows, close} for `resizeImage`. */
export async function decodeImage(file) {
  if (file.size === 0) throw new ImageError("empty file");
  const bitmap = await toBitmap(file);
  const { width, height } = bitmap;
  return { width, height, rows: (top, count) => readRows(bitmap, top, count), close: () => bitmap.close() };
}

async function toBitmap(file) {
  // Upright by default. Browsers before 2023 apply the orientation, too, but reject the option that says so.
  const options = { colorSpaceConversion: "none", premultiplyAlpha: "none" };
  try {
    return await createImageBitmap(file, options);
  } catch (error) {
    if (!IMAGE_ERRORS.includes(error.name)) throw error;
    throw new ImageError("damaged, too large for the memory, or of a format that this browser does not decode; JPEG and PNG are safe");
  }
}

/** Returns the RGBA levels of some rows. */
function readRows(bitmap, top, count) {
  const pixels = new Uint8ClampedArray(bitmap.width * count * 4);
  for (let y = 0; y < count; y += MAX_SIZE) {
    for (let x = 0; x < bitmap.width; x += MAX_SIZE) {
      const [width, height] = [Math.min(MAX_SIZE, bitmap.width - x), Math.min(MAX_SIZE, count - y)];
      const tile = readTile(bitmap, x, top + y, width, height);
      for (let row = 0; row < height; row += 1) {
        pixels.set(tile.subarray(row * width * 4, (row + 1) * width * 4), ((y + row) * bitmap.width + x) * 4);
      }
    }
  }
  return pixels;
}

function readTile(bitmap, left, top, width, height) {
  const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  context.fillStyle = "white";
  context.fillRect(0, 0, width, height);
  context.drawImage(bitmap, left, top, width, height, 0, 0, width, height);
  return context.getImageData(0, 0, width, height).data;
}
