// Follows the newest text until the reader scrolls up, and again once they are back at the end.

const NEAR_END_PX = 40;

export class AutoScroll {
  readonly #area: HTMLElement;
  readonly #toLatest: HTMLElement;
  #active = false;
  #following = false;
  #lastTop = 0;

  constructor(area: HTMLElement, toLatest: HTMLElement) {
    this.#area = area;
    this.#toLatest = toLatest;
    // Scroll events do not bubble. This hears those of the area and those of the page.
    document.addEventListener("scroll", () => this.#onScroll(), { passive: true, capture: true });
    toLatest.addEventListener("click", () => this.follow());
    new ResizeObserver(() => this.contentChanged()).observe(area);
  }

  /** Goes to the end and stays there. */
  follow(): void {
    this.#active = true;
    this.#following = true;
    this.contentChanged();
  }

  /** There is no conversation to follow: back to the top of the welcome. */
  rest(): void {
    this.#active = false;
    this.#following = false;
    this.#scroller.scrollTop = 0;
    this.contentChanged();
  }

  contentChanged(): void {
    const scroller = this.#scroller;
    if (this.#following) scroller.scrollTop = scroller.scrollHeight;
    this.#lastTop = scroller.scrollTop;
    this.#showButton();
  }

  /** On a low screen the style sheet lets the whole page scroll. */
  get #scroller(): Element {
    return getComputedStyle(this.#area).overflowY === "visible" ? document.documentElement : this.#area;
  }

  #onScroll(): void {
    if (!this.#active) return;
    const { scrollTop: top, scrollHeight, clientHeight } = this.#scroller;
    const left = scrollHeight - clientHeight - top;
    // Only a move upwards is the reader's: growing content also makes the end further away.
    if (top < this.#lastTop) this.#following = false;
    if (left <= NEAR_END_PX) this.#following = true;
    this.#lastTop = top;
    this.#showButton();
  }

  #showButton(): void {
    this.#toLatest.hidden = this.#following || !this.#active;
  }
}
