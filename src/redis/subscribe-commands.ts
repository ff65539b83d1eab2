/** SUBSCRIBE and its like, PUBSUB: what is known of subscriptions at this front end. */
import type { Connection } from './connection.js';
import type { Front } from './front.js';
import type { SubscriptionKind } from './own-subscriptions.js';
import { array, bulk, failure, integer, simple } from './resp-text.js';

/** In a connection of RESP2 that has subscribed, nothing else is taken. */
const IN_SUBSCRIBER = new Set(['subscribe', 'psubscribe', 'unsubscribe', 'punsubscribe', 'ping', 'quit', 'reset']);

const HELP = [
  'PUBSUB <subcommand> [<arg> [value] [opt] ...]. Subcommands are:',
  'CHANNELS [<pattern>]',
  "    Return the currently active channels matching a <pattern> (default: '*').",
  'NUMPAT',
  '    Return number of subscriptions to patterns.',
  'NUMSUB [<channel> ...]',
  '    Return the number of subscribers for the specified channels, excluding',
  '    pattern subscriptions(default: no channels).',
  'HELP',
  '    Print this help.',
];

/** Why a subscriber may not do it; undefined: it may. @param name of the command, or its subcommand */
export function refusedToSubscriber({ subscriptions, version }: Connection, name: string): string | undefined {
  if (version === 3 || subscriptions.count === 0 || IN_SUBSCRIBER.has(name)) return undefined;
  return `ERR Can't execute '${name}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context`;
}

function kindOf(command: string): SubscriptionKind {
  return command.startsWith('p') ? 'pattern' : 'channel';
}

/** The replies; the feed has a position already. @param words with the name of the command */
export function subscribe(front: Front, connection: Connection, words: readonly string[]): string {
  const { subscriptions } = front.audience;
  const kind = kindOf(words[0]!.toLowerCase());
  const names = words.slice(1);
  const why = subscriptions.refusal(connection, kind, names);
  if (why !== undefined) return failure(why);
  const replies = subscriptions.add(connection, kind, names, front.revision);
  front.audience.adjust();
  return replies;
}

export function unsubscribe(front: Front, connection: Connection, words: readonly string[]): string {
  const kind = kindOf(words[0]!.toLowerCase());
  const replies = front.audience.subscriptions.remove(connection, kind, words.slice(1));
  front.audience.adjust();
  return replies;
}

export function pubsubCommand({ audience: { subscriptions } }: Front, words: readonly string[]): string {
  const [, subcommand, ...rest] = words;
  switch (subcommand!.toLowerCase()) {
    case 'channels':
      if (rest.length > 1) return failure("ERR wrong number of arguments for 'pubsub|channels' command");
      return array(subscriptions.names(rest[0]).map(bulk));
    case 'numsub':
      return array(rest.flatMap((channel) => [bulk(channel), integer(subscriptions.subscribers(channel))]));
    case 'numpat':
      return integer(subscriptions.patternCount);
    default:
      return array(HELP.map(simple));
  }
}
