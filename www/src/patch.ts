// Puts new content in the place of old content and keeps the nodes that are the same: a selection, a focused button or a
// scroll position in them stays.

/** Puts `fragment` into `target` instead of its children from number `from` on. */
export function patchFrom(target: Node, from: number, fragment: Node): void {
  let old = target.childNodes[from] ?? null;
  for (let fresh = fragment.firstChild; fresh; ) {
    const next: ChildNode | null = fresh.nextSibling;
    if (!old) target.appendChild(fresh);
    else {
      const following: ChildNode | null = old.nextSibling;
      if (!fresh.isEqualNode(old)) become(old, fresh);
      old = following;
    }
    fresh = next;
  }
  while (old) {
    const following: ChildNode | null = old.nextSibling;
    old.remove();
    old = following;
  }
}

/** Makes `old` what `fresh` is; if it has only grown, in place. */
function become(old: ChildNode, fresh: ChildNode): void {
  if (old instanceof Text && fresh instanceof Text && fresh.data.startsWith(old.data)) old.appendData(fresh.data.slice(old.length));
  else if (old instanceof Element && old.cloneNode(false).isEqualNode(fresh.cloneNode(false))) patchFrom(old, 0, fresh);
  else old.replaceWith(fresh);
}
