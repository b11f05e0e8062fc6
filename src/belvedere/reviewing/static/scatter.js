// A scatter plot in WebGL: points with colors, lines between some of them, and the movement of the view.
"use strict";

const VERTEX = `
attribute vec2 position; attribute vec4 color; uniform vec2 scale, offset; uniform float size; varying vec4 shade;
void main() { gl_Position = vec4(position * scale + offset, 0.0, 1.0); gl_PointSize = size; shade = color; }`;
const FRAGMENT = `
precision mediump float; varying vec4 shade; uniform float round; uniform vec4 flat_color;
void main() {
  if (round > 0.5 && length(gl_PointCoord - 0.5) > 0.5) discard;
  gl_FragColor = flat_color.a > 0.0 ? flat_color : shade;
}`;
const MAX_ZOOM = 400;
const MARGIN = 0.25; // of the width and height, drawn on each side beyond the map, for movements without drawing
const MAX_STRETCH = 1.6; // of the drawing by a movement, before it is drawn again
const FRAME_MILLISECONDS = 30; // slower than this, and the next drawing during a movement has fewer points
const [MIN_DETAIL, FIRST_DETAIL] = [4000, 16000]; // points drawn during a movement: at least, and at first
const DARK = "(prefers-color-scheme: dark)";
const REST_MILLISECONDS = 180;
const MIN_ROUND = 4; // pixels of a point, below which it is a square

class Scatter {
  // frame: what is seen of the canvas, which is larger by the margin.
  // positions: Float32Array of x and y from -1 to 1; the y axis points up.
  constructor(canvas, frame, positions) {
    this.canvas = canvas;
    this.frame = frame;
    this.positions = positions;
    this.count = positions.length / 2;
    this.zoom = 1;
    this.center = [0, 0];
    this.selected = 0;
    this.pairs = 0;
    this.showsLines = false;
    this.drawn = { zoom: 1, center: [0, 0] }; // view of the drawing on the canvas
    this.detail = Math.min(this.count, FIRST_DETAIL); // points drawn while the map moves
    canvas.style.inset = `${-100 * MARGIN}%`;
    canvas.style.width = canvas.style.height = `${100 + 200 * MARGIN}%`;
    this.gl = canvas.getContext("webgl", { alpha: false, antialias: false, depth: false });
    if (!this.gl) throw new Error("This browser has no WebGL, which the map needs. The colors beside it select images.");
    this.buffers = {};
    this.indices = {};
    this.prepare();
    canvas.addEventListener("webglcontextlost", (event) => event.preventDefault());
    canvas.addEventListener("webglcontextrestored", () => { this.prepare(); this.draw(); });
    matchMedia(DARK).addEventListener("change", () => this.draw());
    new ResizeObserver(() => this.draw()).observe(frame);
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
    this.attributes = { position: gl.getAttribLocation(program, "position"), color: gl.getAttribLocation(program, "color") };
    gl.enable(gl.BLEND);
    gl.blendFuncSeparate(gl.SRC_ALPHA, gl.ONE_MINUS_SRC_ALPHA, gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
    this.fill("positions", gl.ARRAY_BUFFER, this.positions);
    this.indices.sample ??= shuffledRows(this.count);
    if (this.colors) this.setColors(this.colors, this.indices.all);
    for (const [name, rows] of Object.entries(this.indices)) this.setRows(name, rows);
  }

  fill(name, target, data) {
    const { gl } = this;
    if (!this.buffers[name] || !gl.isBuffer(this.buffers[name])) this.buffers[name] = gl.createBuffer();
    gl.bindBuffer(target, this.buffers[name]);
    gl.bufferData(target, data, gl.STATIC_DRAW);
  }

  // colors: Uint8Array of red, green, blue and alpha for each point. rows: Points in the order drawn.
  setColors(colors, rows) {
    this.colors = colors;
    this.fill("colors", this.gl.ARRAY_BUFFER, colors);
    this.setRows("all", rows);
  }

  // name: "all", "selected" or "sample", rows of points; or "pairs", two rows for each line.
  setRows(name, rows) {
    this.indices = { ...this.indices, [name]: rows };
    this.gl.getExtension("OES_element_index_uint"); // more than 65,536 points
    this.fill(`${name}-rows`, this.gl.ELEMENT_ARRAY_BUFFER, Uint32Array.from(rows));
    this[name] = rows.length;
    this.draw();
  }

  // Draws all points.
  draw() {
    this.isMoving = false;
    this.schedule();
  }

  // Moves the drawing, and draws all points once it rests.
  move() {
    this.isMoving = true;
    clearTimeout(this.rest);
    this.rest = setTimeout(() => this.draw(), REST_MILLISECONDS);
    this.schedule();
  }

  schedule() {
    if (this.pending) return;
    this.pending = true;
    requestAnimationFrame(() => {
      this.pending = false;
      if (!this.isMoving || !this.shift()) this.render();
    });
  }

  // Moves and stretches the drawing as it is, without drawing, which takes long without a graphics processor; returns
  // whether it shows enough.
  shift() {
    const { clientWidth: width, clientHeight: height } = this.frame;
    const stretch = this.zoom / this.drawn.zoom;
    const [sx, sy] = this.scales();
    const dx = ((this.drawn.center[0] - this.center[0]) * sx * width) / 2;
    const dy = ((this.center[1] - this.drawn.center[1]) * sy * height) / 2;
    const reach = stretch * (0.5 + MARGIN) - 0.5;
    if (stretch > MAX_STRETCH || Math.abs(dx) > reach * width || Math.abs(dy) > reach * height) return false;
    this.canvas.style.transform = `translate(${dx}px, ${dy}px) scale(${stretch})`;
    return true;
  }

  // Measures the frames after a drawing with few points.
  async adapt() {
    const times = [performance.now()];
    for (let i = 0; i < 3; i += 1) times.push(await new Promise(requestAnimationFrame));
    const slowest = Math.max(...times.slice(1).map((time, i) => time - times[i]));
    const factor = slowest > FRAME_MILLISECONDS ? 0.6 : 1.3;
    this.detail = Math.round(Math.min(this.count, Math.max(MIN_DETAIL, this.detail * factor)));
  }

  render() {
    if (this.isMoving) this.adapt();
    this.drawn = { zoom: this.zoom, center: this.center };
    this.canvas.style.transform = "";
    const { gl, canvas, uniforms } = this;
    const ratio = window.devicePixelRatio || 1;
    const [width, height] = [Math.round(canvas.clientWidth * ratio), Math.round(canvas.clientHeight * ratio)];
    if (canvas.width !== width || canvas.height !== height) [canvas.width, canvas.height] = [width, height];
    gl.viewport(0, 0, width, height);
    gl.clearColor(...this.paper(), 1);
    gl.clear(gl.COLOR_BUFFER_BIT);
    if (!this.colors || !width || !height) return;
    const [sx, sy] = this.scales().map((scale) => scale / (1 + 2 * MARGIN));
    gl.uniform2f(uniforms.scale, sx, sy);
    gl.uniform2f(uniforms.offset, -this.center[0] * sx, -this.center[1] * sy);
    gl.bindBuffer(gl.ARRAY_BUFFER, this.buffers.positions);
    gl.enableVertexAttribArray(this.attributes.position);
    gl.vertexAttribPointer(this.attributes.position, 2, gl.FLOAT, false, 0, 0);
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
    else this.drawRows("all", gl.POINTS, this.count);
    if (this.selected) {
      gl.uniform1f(uniforms.size, size + 5 * ratio);
      gl.uniform4f(uniforms.flat_color, ...this.ink(1));
      this.drawRows("selected", gl.POINTS, this.selected);
      gl.uniform4f(uniforms.flat_color, 0, 0, 0, 0);
      gl.uniform1f(uniforms.size, size + 1.5 * ratio);
      this.drawRows("selected", gl.POINTS, this.selected);
    }
  }

  drawRows(name, mode, length) {
    this.gl.bindBuffer(this.gl.ELEMENT_ARRAY_BUFFER, this.buffers[`${name}-rows`]);
    this.gl.drawElements(mode, length, this.gl.UNSIGNED_INT, 0);
  }

  ink(alpha) {
    return matchMedia(DARK).matches ? [0.9, 0.92, 0.95, alpha] : [0.1, 0.15, 0.2, alpha];
  }

  paper() {
    return getComputedStyle(this.frame).backgroundColor.match(/\d+/g).slice(0, 3).map((value) => value / 255);
  }

  pointSize() {
    const side = Math.min(600, this.frame.clientWidth, this.frame.clientHeight); // less on a phone
    return Math.min(14, Math.max(2.2, (side / 3.75) / Math.sqrt(this.count)) * Math.sqrt(Math.sqrt(this.zoom)));
  }

  // Factors from positions to the frame from -1 to 1, which keep the shape of the map.
  scales() {
    const { clientWidth: width, clientHeight: height } = this.frame;
    const side = Math.min(width, height) * 0.95 * this.zoom;
    return [side / width, side / height];
  }

  // Pixels of the frame to a position on the map.
  toPosition(x, y) {
    const [sx, sy] = this.scales();
    const { clientWidth: width, clientHeight: height } = this.frame;
    return [((2 * x) / width - 1) / sx + this.center[0], (1 - (2 * y) / height) / sy + this.center[1]];
  }

  pan(dx, dy) {
    const [x0, y0] = this.toPosition(0, 0);
    const [x1, y1] = this.toPosition(dx, dy);
    this.center = [clamp(this.center[0] - (x1 - x0)), clamp(this.center[1] - (y1 - y0))];
    this.move();
  }

  zoomAt(factor, x, y) {
    const before = this.toPosition(x, y);
    this.zoom = Math.min(MAX_ZOOM, Math.max(0.5, this.zoom * factor));
    const after = this.toPosition(x, y);
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
    const [px, py] = this.toPosition(x, y);
    const [right] = this.toPosition(x + pixels, y);
    let best = -1;
    let least = (right - px) ** 2;
    for (let row = 0; row < this.count; row += 1) {
      const distance = (this.positions[2 * row] - px) ** 2 + (this.positions[2 * row + 1] - py) ** 2;
      if (distance < least) [best, least] = [row, distance];
    }
    return best;
  }

  // Returns the rows inside a polygon of pixels.
  inside(polygon) {
    const corners = polygon.map(([x, y]) => this.toPosition(x, y));
    const [xs, ys] = [0, 1].map((axis) => Float64Array.from(corners, (corner) => corner[axis]));
    const [low, high] = [Math.min(...ys), Math.max(...ys)];
    const rows = [];
    for (let row = 0; row < this.count; row += 1) {
      const y = this.positions[2 * row + 1];
      if (y >= low && y <= high && isInside(this.positions[2 * row], y, xs, ys)) rows.push(row);
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

function isInside(x, y, xs, ys) {
  let inside = false;
  for (let i = 0, j = xs.length - 1; i < xs.length; j = i, i += 1) {
    if (ys[i] > y !== ys[j] > y && x < ((xs[j] - xs[i]) * (y - ys[i])) / (ys[j] - ys[i]) + xs[i]) inside = !inside;
  }
  return inside;
}
