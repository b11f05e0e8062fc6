// A scatter plot in WebGL: points with colors, lines between some of them, and the movement of the view.
"use strict";

const VERTEX = `
attribute vec2 place; attribute vec4 color; uniform vec2 scale, offset; uniform float size; varying vec4 shade;
void main() { gl_Position = vec4(place * scale + offset, 0.0, 1.0); gl_PointSize = size; shade = color; }`;
const FRAGMENT = `
precision mediump float; varying vec4 shade; uniform float round; uniform vec4 flat_color;
void main() {
  if (round > 0.5 && length(gl_PointCoord - 0.5) > 0.5) discard;
  gl_FragColor = flat_color.a > 0.0 ? flat_color : shade;
}`;
const MAX_ZOOM = 400;
const FRAME_MILLISECONDS = 30; // slower than this while the map moves, and fewer points are drawn until it rests
const MIN_DETAIL = 4000; // points drawn at least
const REST_MILLISECONDS = 180;
const MIN_ROUND = 4; // pixels of a point, below which it is a square

class Scatter {
  // places: Float32Array of x and y from -1 to 1; the y axis points up.
  constructor(canvas, places) {
    this.canvas = canvas;
    this.places = places;
    this.count = places.length / 2;
    this.zoom = 1;
    this.center = [0, 0];
    this.selected = 0;
    this.pairs = 0;
    this.showsLines = false;
    this.frames = 0; // drawn so far
    this.detail = this.count; // points drawn while the map moves
    this.last = 0; // time of the last frame of a movement
    this.gl = canvas.getContext("webgl", { antialias: false, premultipliedAlpha: false });
    if (!this.gl) throw new Error("This browser has no WebGL, which the map needs. The colors beside it select images.");
    this.buffers = {};
    this.indices = {};
    this.prepare();
    canvas.addEventListener("webglcontextlost", (event) => event.preventDefault());
    canvas.addEventListener("webglcontextrestored", () => { this.prepare(); this.draw(); });
    new ResizeObserver(() => this.draw()).observe(canvas);
  }

  prepare() {
    const { gl } = this;
    const program = gl.createProgram();
    for (const [kind, source] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, FRAGMENT]]) {
      const shader = gl.createShader(kind);
      gl.shaderSource(shader, source);
      gl.compileShader(shader);
      gl.attachShader(program, shader);
    }
    gl.linkProgram(program);
    gl.useProgram(program);
    this.uniforms = Object.fromEntries(["scale", "offset", "size", "round", "flat_color"].map((name) => [name, gl.getUniformLocation(program, name)]));
    this.attributes = { place: gl.getAttribLocation(program, "place"), color: gl.getAttribLocation(program, "color") };
    gl.enable(gl.BLEND);
    gl.blendFuncSeparate(gl.SRC_ALPHA, gl.ONE_MINUS_SRC_ALPHA, gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
    this.fill("places", gl.ARRAY_BUFFER, this.places);
    this.indices.sample ??= shuffledRows(this.count);
    if (this.colors) this.setColors(this.colors);
    for (const [name, rows] of Object.entries(this.indices)) this.setRows(name, rows);
  }

  fill(name, target, data) {
    const { gl } = this;
    if (!this.buffers[name] || !gl.isBuffer(this.buffers[name])) this.buffers[name] = gl.createBuffer();
    gl.bindBuffer(target, this.buffers[name]);
    gl.bufferData(target, data, gl.STATIC_DRAW);
  }

  // colors: Uint8Array of red, green, blue and alpha for each point.
  setColors(colors) {
    this.colors = colors;
    this.fill("colors", this.gl.ARRAY_BUFFER, colors);
    this.draw();
  }

  // name: "selected" or "sample", rows of points; or "pairs", two rows for each line.
  setRows(name, rows) {
    this.indices = { ...this.indices, [name]: rows };
    this.gl.getExtension("OES_element_index_uint"); // more than 65,536 points
    this.fill(`${name}-rows`, this.gl.ELEMENT_ARRAY_BUFFER, Uint32Array.from(rows));
    if (name !== "sample") this[name] = rows.length;
    this.draw();
  }

  draw() {
    if (this.pending) return;
    this.pending = true;
    requestAnimationFrame(() => { this.pending = false; this.render(); });
  }

  // Draws a frame of a movement, with as many points as are fast enough, and all points once it rests.
  move() {
    this.isMoving = true;
    clearTimeout(this.rest);
    this.rest = setTimeout(() => {
      this.isMoving = false;
      this.last = 0;
      this.draw();
    }, REST_MILLISECONDS);
    this.draw();
  }

  adapt() {
    const now = performance.now();
    if (this.isMoving && this.last) {
      const factor = now - this.last > FRAME_MILLISECONDS ? 0.6 : 1.15;
      this.detail = Math.round(Math.min(this.count, Math.max(MIN_DETAIL, this.detail * factor)));
    }
    this.last = this.isMoving ? now : 0;
  }

  render() {
    this.adapt();
    const { gl, canvas, uniforms } = this;
    const ratio = window.devicePixelRatio || 1;
    const [width, height] = [Math.round(canvas.clientWidth * ratio), Math.round(canvas.clientHeight * ratio)];
    if (canvas.width !== width || canvas.height !== height) [canvas.width, canvas.height] = [width, height];
    gl.viewport(0, 0, width, height);
    gl.clearColor(0, 0, 0, 0);
    gl.clear(gl.COLOR_BUFFER_BIT);
    if (!this.colors || !width || !height) return;
    const [sx, sy] = this.scales();
    gl.uniform2f(uniforms.scale, sx, sy);
    gl.uniform2f(uniforms.offset, -this.center[0] * sx, -this.center[1] * sy);
    gl.bindBuffer(gl.ARRAY_BUFFER, this.buffers.places);
    gl.enableVertexAttribArray(this.attributes.place);
    gl.vertexAttribPointer(this.attributes.place, 2, gl.FLOAT, false, 0, 0);
    gl.bindBuffer(gl.ARRAY_BUFFER, this.buffers.colors);
    gl.enableVertexAttribArray(this.attributes.color);
    gl.vertexAttribPointer(this.attributes.color, 4, gl.UNSIGNED_BYTE, true, 0, 0);
    const size = this.pointSize() * ratio;
    gl.uniform1f(uniforms.round, 0);
    gl.uniform4f(uniforms.flat_color, ...this.ink(0.55));
    if (this.showsLines && this.pairs) this.drawRows("pairs", gl.LINES, this.pairs);
    gl.uniform4f(uniforms.flat_color, 0, 0, 0, 0);
    gl.uniform1f(uniforms.round, size < MIN_ROUND ? 0 : 1);
    gl.uniform1f(uniforms.size, size);
    if (this.isMoving && this.detail < this.count) this.drawRows("sample", gl.POINTS, this.detail);
    else gl.drawArrays(gl.POINTS, 0, this.count);
    if (this.selected) {
      gl.uniform1f(uniforms.size, size + 5 * ratio);
      gl.uniform4f(uniforms.flat_color, ...this.ink(1));
      this.drawRows("selected", gl.POINTS, this.selected);
      gl.uniform4f(uniforms.flat_color, 0, 0, 0, 0);
      gl.uniform1f(uniforms.size, size + 1.5 * ratio);
      this.drawRows("selected", gl.POINTS, this.selected);
    }
    this.frames += 1;
  }

  drawRows(name, mode, length) {
    this.gl.bindBuffer(this.gl.ELEMENT_ARRAY_BUFFER, this.buffers[`${name}-rows`]);
    this.gl.drawElements(mode, length, this.gl.UNSIGNED_INT, 0);
  }

  ink(alpha) {
    return matchMedia("(prefers-color-scheme: dark)").matches ? [0.9, 0.92, 0.95, alpha] : [0.1, 0.15, 0.2, alpha];
  }

  pointSize() {
    return Math.min(14, Math.max(2.2, 160 / Math.sqrt(this.count)) * Math.sqrt(Math.sqrt(this.zoom)));
  }

  // Factors from places to the canvas from -1 to 1, which keep the shape of the map.
  scales() {
    const { clientWidth: width, clientHeight: height } = this.canvas;
    const side = Math.min(width, height) * 0.95 * this.zoom;
    return [side / width, side / height];
  }

  // Pixels of the canvas to a place on the map, and back.
  toPlace(x, y) {
    const [sx, sy] = this.scales();
    const { clientWidth: width, clientHeight: height } = this.canvas;
    return [((2 * x) / width - 1) / sx + this.center[0], (1 - (2 * y) / height) / sy + this.center[1]];
  }

  pan(dx, dy) {
    const [x0, y0] = this.toPlace(0, 0);
    const [x1, y1] = this.toPlace(dx, dy);
    this.center = [clamp(this.center[0] - (x1 - x0)), clamp(this.center[1] - (y1 - y0))];
    this.move();
  }

  zoomAt(factor, x, y) {
    const before = this.toPlace(x, y);
    this.zoom = Math.min(MAX_ZOOM, Math.max(0.5, this.zoom * factor));
    const after = this.toPlace(x, y);
    this.center = this.center.map((value, axis) => clamp(value + before[axis] - after[axis]));
    this.move();
  }

  reset() {
    this.zoom = 1;
    this.center = [0, 0];
    this.draw();
  }

  // Returns the row of the point nearest to a pixel, or -1 if none is within some pixels.
  nearest(x, y, pixels = 14) {
    const [px, py] = this.toPlace(x, y);
    const [right] = this.toPlace(x + pixels, y);
    let best = -1;
    let least = (right - px) ** 2;
    for (let row = 0; row < this.count; row += 1) {
      const distance = (this.places[2 * row] - px) ** 2 + (this.places[2 * row + 1] - py) ** 2;
      if (distance < least) [best, least] = [row, distance];
    }
    return best;
  }

  // Returns the rows inside a polygon of pixels.
  inside(polygon) {
    const corners = polygon.map(([x, y]) => this.toPlace(x, y));
    const rows = [];
    for (let row = 0; row < this.count; row += 1) {
      if (isInside(this.places[2 * row], this.places[2 * row + 1], corners)) rows.push(row);
    }
    return rows;
  }
}

// Returns the rows in random order, the same each time.
function shuffledRows(count) {
  const rows = Uint32Array.from({ length: count }, (_, row) => row);
  let state = 1;
  for (let i = count - 1; i > 0; i -= 1) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0; // Numerical Recipes' generator
    const j = state % (i + 1);
    [rows[i], rows[j]] = [rows[j], rows[i]];
  }
  return rows;
}

function clamp(value) {
  return Math.min(1.2, Math.max(-1.2, value));
}

function isInside(x, y, corners) {
  let inside = false;
  for (let i = 0, j = corners.length - 1; i < corners.length; j = i, i += 1) {
    const [xi, yi] = corners[i];
    const [xj, yj] = corners[j];
    if (yi > y !== yj > y && x < ((xj - xi) * (y - yi)) / (yj - yi) + xi) inside = !inside;
  }
  return inside;
}
