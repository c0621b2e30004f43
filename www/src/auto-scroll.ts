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
    area.addEventListener("scroll", () => this.#onScroll(), { passive: true });
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
    this.#area.scrollTop = 0;
    this.contentChanged();
  }

  contentChanged(): void {
    if (this.#following) this.#area.scrollTop = this.#area.scrollHeight;
    this.#lastTop = this.#area.scrollTop;
    this.#showButton();
  }

  #onScroll(): void {
    if (!this.#active) return;
    const top = this.#area.scrollTop;
    const left = this.#area.scrollHeight - this.#area.clientHeight - top;
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
