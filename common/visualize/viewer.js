"use strict";
// The one viewer of the pages: an image or a volume in a picture, drawn slice by slice.

// Voxel (i, j, k) is pixel (i, k * y + j); in a deep picture red and green are the upper and the lower byte, and blue marks a region.
async function decoded(png, [x, y, z], deep = false) {
  const picture = new Image(); picture.src = "data:image/png;base64," + png; await picture.decode();
  const flat = document.createElement("canvas"); flat.width = picture.width; flat.height = picture.height;
  const context = flat.getContext("2d", {willReadFrequently: true}); context.drawImage(picture, 0, 0);
  const rgba = context.getImageData(0, 0, flat.width, flat.height).data;
  const values = new Uint16Array(x * y * z), marked = new Uint8Array(deep ? values.length : 0);
  for (let i = 0, o = 0; i < values.length; i++, o += 4) {
    values[i] = deep ? rgba[o] * 256 + rgba[o + 1] : rgba[o];
    if (deep) marked[i] = rgba[o + 2];
  }
  return {values, marked};
}

// A canvas of the slices across an axis; paint(voxel, rgba, o) says the colour of a voxel.
function sliced(sides, mm, [axis, across, down], at, paint) {
  const canvas = document.createElement("canvas"), strides = [1, sides[0], sides[0] * sides[1]];
  canvas.width = sides[across]; canvas.height = sides[down];
  canvas.style.aspectRatio = `${sides[across] * mm[across]} / ${sides[down] * mm[down]}`;
  canvas.setAttribute("role", "img");
  const pen = canvas.getContext("2d"), pixels = pen.createImageData(canvas.width, canvas.height);
  canvas.voxel = (column, row) => at[axis] * strides[axis] + column * strides[across] + row * strides[down];
  canvas.redraw = () => {
    for (let row = 0, o = 0; row < canvas.height; row++) for (let column = 0; column < canvas.width; column++, o += 4) {
      paint(canvas.voxel(column, row), pixels.data, o); pixels.data[o + 3] = 255;
    }
    pen.putImageData(pixels, 0, 0);
  };
  canvas.move = by => { at[axis] = Math.min(sides[axis] - 1, Math.max(0, at[axis] + by)); canvas.redraw(); };
  return canvas;
}
