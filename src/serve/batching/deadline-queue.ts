/**
 * Requests in the order of their deadlines, equal ones in the order of their arrival. It also tells how many samples are due up to
 * a deadline. A tree, balanced at random (a treap); every operation takes O(log n).
 */

/** What the queue needs to know of an entry. */
export interface Due {
  readonly samples: number;
  /** On any clock; may be infinite. */
  readonly deadlineMs: number;
}

/** A request and its place in the tree: what `remove` takes. Only its queue writes to it. */
export class Place<R extends Due> {
  readonly request: R;
  /** The node with the least is the root of its subtree. */
  readonly rank: number;
  parent: Place<R> | undefined;
  left: Place<R> | undefined;
  right: Place<R> | undefined;
  /** Samples of its subtree. */
  samples: number;

  constructor(request: R, rank: number) {
    this.request = request;
    this.rank = rank;
    this.samples = request.samples;
  }
}

export class DeadlineQueue<R extends Due> {
  #root: Place<R> | undefined;
  #first: Place<R> | undefined;
  #size = 0;
  #ranks = 1;

  get size(): number {
    return this.#size;
  }

  /** Samples of all requests. */
  get samples(): number {
    return this.#root?.samples ?? 0;
  }

  /** The request that is due first. */
  get first(): Place<R> | undefined {
    return this.#first;
  }

  add(request: R): Place<R> {
    // Numerical Recipes' generator: balance asks for no better one.
    this.#ranks = (Math.imul(this.#ranks, 1664525) + 1013904223) >>> 0;
    const node = new Place(request, this.#ranks);
    this.#size++;
    let parent = this.#root;
    let isFirst = true;
    while (parent !== undefined) {
      parent.samples += request.samples;
      const isBefore = request.deadlineMs < parent.request.deadlineMs;
      if (!isBefore) isFirst = false;
      const child = isBefore ? parent.left : parent.right;
      if (child === undefined) {
        node.parent = parent;
        if (isBefore) parent.left = node;
        else parent.right = node;
        break;
      }
      parent = child;
    }
    if (isFirst) this.#first = node;
    while (node.parent !== undefined && node.rank < node.parent.rank) this.#rotateUp(node, node.parent);
    if (node.parent === undefined) this.#root = node;
    return node;
  }

  /** Takes a request out. Its place must be one of this queue's, and not taken out yet. */
  remove(node: Place<R>): void {
    if (node === this.#first) this.#first = successorOfFirst(node);
    const { parent, left, right } = node;
    const rest = left === undefined || right === undefined ? (left ?? right) : merged(left, right);
    if (rest !== undefined) rest.parent = parent;
    if (parent === undefined) this.#root = rest;
    else if (parent.left === node) parent.left = rest;
    else parent.right = rest;
    for (let above = parent; above !== undefined; above = above.parent) above.samples -= node.request.samples;
    this.#size--;
  }

  /** Samples of the requests that are due at `deadlineMs` or before. */
  samplesDueBy(deadlineMs: number): number {
    let sum = 0;
    let node = this.#root;
    while (node !== undefined) {
      if (deadlineMs < node.request.deadlineMs) node = node.left;
      else {
        sum += node.samples - (node.right?.samples ?? 0);
        node = node.right;
      }
    }
    return sum;
  }

  #rotateUp(node: Place<R>, parent: Place<R>): void {
    const above = parent.parent;
    const isLeft = parent.left === node;
    const moved = isLeft ? node.right : node.left;
    if (isLeft) {
      parent.left = moved;
      node.right = parent;
    } else {
      parent.right = moved;
      node.left = parent;
    }
    if (moved !== undefined) moved.parent = parent;
    parent.parent = node;
    node.parent = above;
    if (above === undefined) this.#root = node;
    else if (above.left === parent) above.left = node;
    else above.right = node;
    const whole = parent.samples;
    parent.samples = whole - node.samples + (moved?.samples ?? 0);
    node.samples = whole;
  }
}

/** The node after the first one, which has nothing to its left. */
function successorOfFirst<R extends Due>(first: Place<R>): Place<R> | undefined {
  let next = first.right;
  if (next === undefined) return first.parent;
  while (next.left !== undefined) next = next.left;
  return next;
}

/** One tree of two, all of `left` before all of `right`. */
function merged<R extends Due>(left: Place<R>, right: Place<R>): Place<R> {
  if (left.rank < right.rank) {
    left.samples += right.samples;
    left.right = left.right === undefined ? right : merged(left.right, right);
    left.right.parent = left;
    return left;
  }
  right.samples += left.samples;
  right.left = right.left === undefined ? left : merged(left, right.left);
  right.left.parent = right;
  return right;
}
