// A window of grey values that follows the mouse, as in programs of radiologists.

const PIXELS = 150; // of a drag that makes a window twice as wide

/** A window that moves by shares of its width: up or down, and wider or narrower. */
export function movedWindow({ low, high }, across, up) {
  const width = (high - low) * 2 ** across, level = (low + high) / 2 + up * (high - low);
  return { low: level - width / 2, high: level + width / 2 };
}

/** Keys with Shift that do the same, in small steps. @param {KeyboardEvent} event */
export function windowKey(event) {
  const step = { ArrowLeft: [-0.1, 0], ArrowRight: [0.1, 0], ArrowUp: [0, 0.05], ArrowDown: [0, -0.05] }[event.key];
  return event.shiftKey ? step : undefined;
}

/**
 * Lets the second mouse button, or the first with Shift, change a window: up and down its level, left and right its width.
 * @param {HTMLElement} element @param {{ read: () => { low: number, high: number }, write: (window: { low: number, high: number }) => void }} page
 */
export function dragWindow(element, page) {
  let start = null;
  element.addEventListener("contextmenu", (event) => event.preventDefault());
  element.addEventListener("pointerdown", (event) => {
    if (event.button !== 2 && !(event.button === 0 && event.shiftKey)) return;
    event.preventDefault(); // and no other action of the mouse
    event.stopPropagation();
    start = { x: event.clientX, y: event.clientY, window: page.read() };
    element.setPointerCapture(event.pointerId);
  }, { capture: true });
  element.addEventListener("pointermove", (event) => {
    if (!start) return;
    event.stopPropagation();
    page.write(movedWindow(start.window, (event.clientX - start.x) / PIXELS, (start.y - event.clientY) / (2 * PIXELS)));
  }, { capture: true });
  for (const end of ["pointerup", "pointercancel"]) {
    element.addEventListener(end, (event) => {
      if (start) event.stopPropagation();
      start = null;
    }, { capture: true });
  }
}
