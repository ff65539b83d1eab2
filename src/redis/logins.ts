/**
 * Checks logins. A password's hash is dear to compute, and whoever reaches the port may ask for it.
 *
 * The rule: guessing is slow and cheap for the server. Few hashes are computed at once, few logins wait, and an address
 * that failed often has to wait; the addresses of an IPv6 network of 64 bits, which one host has, are one. A login whose
 * connection is gone is not checked. A password that was right before is recognized by a digest under a key that only this
 * process has, so that thousands of connections that come back cost nothing.
 */
import { createHmac, randomBytes } from 'node:crypto';
import { isIP } from 'node:net';
import { isPassword, PASSWORD_BYTES_MAX, type User, type Users } from './users.js';

/** Hashes at once: two of the four threads that Node has for such work. */
const CHECKS_MAX = 2;
/** Logins that wait for that. */
const WAITING_MAX = 1000;
/** Failures that an address has at once, and after how long it has one more. */
const FAILURES_MAX = 10;
const FAILURE_MS = 1000;
/** Addresses with failures that are remembered, and passwords that were right. */
const REMEMBERED_MAX = 10_000;

/** `busy`, `too-often`: nothing was checked. `gone`: nobody waits for the answer. */
export type Login = User | 'wrong' | 'busy' | 'too-often' | 'gone';

interface Waiting {
  /** @param isTurn it is checked now; false: its connection is gone */
  readonly go: (isTurn: boolean) => void;
  readonly isGone: () => boolean;
}

export class Logins {
  private readonly key = randomBytes(32);
  /** By name: the digest of the password that was right. */
  private readonly right = new Map<string, string>();
  /** By network: how many failures it has left, and when that was. */
  private readonly failures = new Map<string, { left: number; atMs: number }>();
  private checking = 0;
  private waiting: Waiting[] = [];

  constructor(
    private users: Users,
    private readonly nowMs: () => number = () => performance.now(),
  ) {}

  /** The file was read again. */
  replace(users: Users): void {
    this.users = users;
    this.right.clear();
  }

  /** The user as the file has it now; undefined: it was removed. */
  find(name: string): User | undefined {
    return this.users.get(name);
  }

  /**
   * @param password a byte a character
   * @param address the client's, without its port
   * @param isGone its client left: asked when its turn comes, if it had to wait
   */
  async check(name: string, password: string, address: string, isGone: () => boolean = () => false): Promise<Login> {
    const network = networkOf(address);
    const user = this.users.get(name);
    if (password.length > PASSWORD_BYTES_MAX) return this.failed(network);
    const digest = createHmac('sha256', this.key)
      .update(`${name.length} ${name}${password}`, 'latin1')
      .digest('base64');
    if (user !== undefined && this.right.get(name) === digest) return user;
    if (!this.mayFail(network)) return 'too-often';
    if (this.checking >= CHECKS_MAX) {
      if (this.waiting.length >= WAITING_MAX) this.dropGone();
      if (this.waiting.length >= WAITING_MAX) return 'busy';
      if (!(await new Promise<boolean>((go) => this.waiting.push({ go, isGone })))) return 'gone';
      // Others from there may have failed meanwhile.
      if (!this.mayFail(network)) {
        this.next();
        return 'too-often';
      }
    }
    this.checking++;
    let isRight: boolean;
    try {
      isRight = await isPassword(user, password);
    } finally {
      this.checking--;
      this.next();
    }
    if (!isRight) return this.failed(network);
    // It may have been changed or removed while the hash was computed.
    if (this.users.get(name) !== user) return 'busy';
    if (this.right.size >= REMEMBERED_MAX) this.right.clear();
    this.right.set(name, digest);
    return user!;
  }

  /** The next that waits has its turn. */
  private next(): void {
    for (let one = this.waiting.shift(); one !== undefined; one = this.waiting.shift()) {
      const isTurn = !one.isGone();
      one.go(isTurn);
      if (isTurn) return;
    }
  }

  private dropGone(): void {
    const all = this.waiting;
    this.waiting = all.filter(({ isGone }) => !isGone());
    for (const { go, isGone } of all) if (isGone()) go(false);
  }

  private mayFail(network: string): boolean {
    const known = this.failures.get(network);
    return known === undefined || known.left + (this.nowMs() - known.atMs) / FAILURE_MS >= 1;
  }

  private failed(network: string): 'wrong' {
    const atMs = this.nowMs();
    const known = this.failures.get(network);
    const left =
      known === undefined ? FAILURES_MAX : Math.min(FAILURES_MAX, known.left + (atMs - known.atMs) / FAILURE_MS);
    this.failures.delete(network);
    if (this.failures.size >= REMEMBERED_MAX) this.failures.delete(this.failures.keys().next().value!);
    this.failures.set(network, { left: left - 1, atMs });
    return 'wrong';
  }
}

/** What counts as one address: an IPv4 address, or the first 64 bits of an IPv6 address. */
function networkOf(address: string): string {
  const plain = address.startsWith('::ffff:') ? address.slice('::ffff:'.length) : address;
  if (isIP(plain) !== 6) return plain;
  const [head, tail] = plain.split('%', 1)[0]!.split('::') as [string, string?];
  const groups = head === '' ? [] : head.split(':');
  if (tail !== undefined) {
    const rest = tail === '' ? [] : tail.split(':');
    while (groups.length + rest.length < 8) groups.push('0');
    groups.push(...rest);
  }
  return `${groups
    .slice(0, 4)
    .map((group) => parseInt(group, 16))
    .join(':')}/64`;
}
