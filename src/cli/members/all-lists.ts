/**
 * Asks all members of a cluster who the members are: the replicas of the cluster file, and the hosts that these list and
 * the file lacks. So an old cluster file is enough, as long as one host in it still answers.
 */
import { Inquiry, type Answered, type InquiryOptions } from '../../client/inquiry.js';
import { MEMBERS_QUESTION, MembersClient, type KnownMembers } from '../../client/members-client.js';
import { addressText, hostAndPortOf, type Cluster } from '../../host/cluster-config.js';
import type { Member } from '../../wire/member-list.js';
import { newerFirst } from './agreement.js';

/** Throws the errors of `Inquiry.open` and `Inquiry.ask`. */
export async function askAllMembers(
  options: InquiryOptions,
  timeoutMs: number,
): Promise<{ readonly cluster: Cluster; readonly answers: readonly Answered<KnownMembers>[] }> {
  await using client = await MembersClient.open(options);
  const { cluster } = client;
  const own = await client.ask(timeoutMs);
  const [newest] = own.flatMap(({ answer }) => (answer === undefined ? [] : [answer.list])).sort(newerFirst);
  if (newest === undefined) return { cluster, answers: own };
  const isListed = ({ id, address }: { readonly id: number; readonly address: string }): boolean =>
    newest.hosts.some((host) => host.id === id && host.address === address);
  // A place of the file at which no member is, and nobody answers, says nothing of the cluster.
  const kept = own.filter((each) => each.answer !== undefined || isListed(each));
  const missing = newest.hosts.filter((host) =>
    kept.every(({ id, address }) => id !== host.id || address !== host.address),
  );
  const others = await askOthers(options, missing, timeoutMs);
  return { cluster, answers: [...kept, ...others].sort((a, b) => a.id - b.id) };
}

async function askOthers(
  options: InquiryOptions,
  hosts: readonly Member[],
  timeoutMs: number,
): Promise<readonly Answered<KnownMembers>[]> {
  const asked = hosts.flatMap(({ id, address }) => {
    const at = hostAndPortOf(address);
    return at === undefined ? [] : [{ id, at }];
  });
  if (asked.length === 0) return [];
  try {
    await using inquiry = await Inquiry.open('jitpaxos member list', options, MEMBERS_QUESTION, asked);
    return await inquiry.ask(timeoutMs); // it is closed when this function ends
  } catch {
    // None of their names resolves here: they are shown, and nothing is known of them.
    return asked.map(({ id, at }) => ({
      id,
      address: addressText(at),
      answer: undefined,
      roundTripUs: undefined,
      speaks: 0,
    }));
  }
}
