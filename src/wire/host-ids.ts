/**
 * How a process numbers those with whom it exchanges datagrams, and which host an id on the wire stands for.
 *
 * An *id* is the sender field of an envelope. The log gives it to a host, and never again. A *slot* is the host's place
 * in the tables of a process as long as it is listed. In a cluster whose members never changed both are the replica's
 * place in the cluster file.
 *
 *     0 … 30     hosts, by slot
 *     31 … 63    addresses of processes that are asked who the members are
 *     64 …       everybody else, by the endpoint table of the transport
 */
/** Endpoints below this are hosts: as many as a list of members may have. */
export const HOST_PLACES = 31;
/** Endpoints below this are written to under this process's own key, at an address that it chose. */
export const PLACES = 64;

/** The id under which a process speaks that waits to be added: the last one, which no host is given. */
export const WAITING_ID = 0xfffe;

/** The last id that a host is given. */
export const ID_MAX = WAITING_ID - 1;

/** No listed host has that id. */
export const UNLISTED = 0xff;

export class HostIds {
  /** By id; UNLISTED: no host. Ids beyond the end are not listed. */
  private slots: Uint8Array;

  /** The replicas of a cluster file: id and slot are their places in it. */
  constructor(replicas: number) {
    this.slots = Uint8Array.from({ length: replicas }, (_, id) => id);
  }

  /** The slot of the host with that id, or UNLISTED. */
  slotOf(id: number): number {
    return id < this.slots.length ? this.slots[id]! : UNLISTED;
  }

  list(id: number, slot: number): void {
    if (id >= this.slots.length) {
      const longer = new Uint8Array(id + 1).fill(UNLISTED);
      longer.set(this.slots);
      this.slots = longer;
    }
    this.slots[id] = slot;
  }

  unlist(id: number): void {
    if (id < this.slots.length) this.slots[id] = UNLISTED;
  }
}
