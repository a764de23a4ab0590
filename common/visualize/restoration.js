// The pictures of a restoration report: window, zoom, slices and read-out, the same in all pictures of a case.
const mixed = (a, b, share) => a.map((from, c) => from + (b[c] - from) * share);
const BLUE = [33, 102, 172], WHITE = [247, 247, 247], RED = [178, 24, 43], WARM = [[128, 128, 128], [255, 200, 0], [255, 60, 0]];
const signed = share => share < 0 ? mixed(WHITE, BLUE, Math.min(1, -share)) : mixed(WHITE, RED, Math.min(1, share));
const warm = (share, grey) => {
  const colour = share < .5 ? mixed(WARM[0], WARM[1], 2 * share) : mixed(WARM[1], WARM[2], 2 * share - 1);
  return mixed([grey, grey, grey], colour, Math.min(1, 2 * share));
};
const short = value => String(Number(value.toPrecision(4)));
const gradient = colour => `linear-gradient(to right, ${[...Array(21).keys()].map(i => `rgb(${colour(i / 20).map(Math.round)})`)})`;

async function show(section, data) {
  const [x, y] = data.shape, at = [0, 0, Math.floor(data.shape[2] / 2)], find = name => section.querySelector("." + name);
  const [image, result] = await Promise.all([data.image, data.result].map(png => decoded(png, data.shape, true)));
  const spread = data.deviation ? (await decoded(data.deviation, data.shape, true)).values : null, marks = result.marked;
  const value = (levels, voxel) => data.low + data.step * levels[voxel], deviation = voxel => spread[voxel] * data.largest / 65535;
  const change = voxel => data.step * (result.values[voxel] - image.values[voxel]);
  let [low, high] = data.window, zoom = 1, shift = [0, 0];
  const grey = shown => Math.max(0, Math.min(255, 255 * (shown - low) / (high - low)));
  const edge = voxel => marks[voxel] && (voxel % x === 0 || !marks[voxel - 1] || !marks[voxel + 1] || !marks[voxel - x] || !marks[voxel + x]);
  const plain = levels => voxel => { const level = grey(value(levels, voxel)); return edge(voxel) ? [255, 211, 77] : [level, level, level]; };
  const colours = {
    image: plain(image.values), result: plain(result.values),
    difference: voxel => signed(change(voxel) / data.difference),
    deviation: voxel => warm(spread[voxel] / 65535, grey(value(result.values, voxel))),
  };
  const views = [...section.querySelectorAll(".view")];
  const canvases = views.map(view => {
    const colour = colours[view.dataset.kind];
    const canvas = sliced(data.shape, data.spacing, [2, 0, 1], at, (voxel, rgba, o) => { [rgba[o], rgba[o + 1], rgba[o + 2]] = colour(voxel); });
    canvas.setAttribute("aria-label", view.dataset.kind);
    view.prepend(canvas);
    return canvas;
  });
  const bars = () => views.forEach(view => {
    const bar = view.parentElement.querySelector(".bar"), kind = view.dataset.kind;
    const [colour, ends] = kind === "difference" ? [t => signed(2 * t - 1), [-data.difference, 0, data.difference]]
      : kind === "deviation" ? [t => warm(t, 90), [0, data.largest / 2, data.largest]] : [t => [255 * t, 255 * t, 255 * t], [low, (low + high) / 2, high]];
    bar.style.background = gradient(colour);
    bar.nextElementSibling.replaceChildren(...ends.map(end => Object.assign(document.createElement("span"), {textContent: short(end)})));
  });
  const redraw = () => { canvases.forEach(canvas => canvas.redraw()); bars(); };
  const place = () => canvases.forEach(canvas => {
    const [width, height] = [canvas.clientWidth, canvas.clientHeight];
    shift = [Math.max(width * (1 - zoom), Math.min(0, shift[0])), Math.max(height * (1 - zoom), Math.min(0, shift[1]))];
    canvas.style.transform = `translate(${shift[0]}px, ${shift[1]}px) scale(${zoom})`;
  });
  const zoomed = (factor, at = [canvases[0].clientWidth / 2, canvases[0].clientHeight / 2]) => {
    const next = Math.max(1, Math.min(32, zoom * factor));
    shift = shift.map((s, i) => at[i] - (at[i] - s) * next / zoom); zoom = next; place();
  };
  const turn = index => {
    at[2] = Math.max(0, Math.min(data.shape[2] - 1, index)); find("slice").value = at[2];
    find("depth").querySelector("output").textContent = `${data.slices[at[2]] + 1} of ${data.of}`; redraw();
  };
  const reset = () => { [low, high] = data.window; zoom = 1; shift = [0, 0]; find("low").value = short(low); find("high").value = short(high); place(); redraw(); };
  for (const name of ["low", "high"]) find(name).addEventListener("input", () => {
    low = Number(find("low").value); high = Math.max(Number(find("high").value), low + data.step); redraw();
  });
  find("in").onclick = () => zoomed(2); find("out").onclick = () => zoomed(.5); find("reset").onclick = reset;
  find("depth").hidden = data.of === 1; find("depth").style.display = data.of === 1 ? "none" : "";
  find("slice").max = data.shape[2] - 1; find("slice").oninput = () => turn(Number(find("slice").value));
  for (const [index, view] of views.entries()) {
    const canvas = canvases[index];
    view.addEventListener("wheel", event => {
      if (event.ctrlKey) { event.preventDefault(); const box = view.getBoundingClientRect(); zoomed(event.deltaY < 0 ? 1.25 : .8, [event.clientX - box.left, event.clientY - box.top]); }
      else if (data.of > 1) { event.preventDefault(); turn(at[2] + Math.sign(event.deltaY)); }
    }, {passive: false});
    view.addEventListener("pointermove", event => {
      if (event.buttons) { shift = [shift[0] + event.movementX, shift[1] + event.movementY]; place(); }
      const box = view.getBoundingClientRect(), inside = [(event.clientX - box.left - shift[0]) / zoom / box.width, (event.clientY - box.top - shift[1]) / zoom / box.height];
      const column = Math.min(x - 1, Math.max(0, Math.floor(inside[0] * x))), row = Math.min(y - 1, Math.max(0, Math.floor(inside[1] * y)));
      const voxel = canvas.voxel(column, row), unsure = spread ? `, deviation ${short(deviation(voxel))}` : "";
      find("readout").textContent = `Column ${column}, row ${row}: input ${short(value(image.values, voxel))}, result ${short(value(result.values, voxel))}, `
        + `change ${short(change(voxel))}${unsure}`;
    });
  }
  reset(); turn(at[2]); section.dataset.ready = "yes";
}

CASES.forEach((data, index) => { if (data.shape) show(document.getElementById(`case-${index}`), data); });
