/** What the front end counts, since its start. */
export interface Counters {
  connections: number;
  /** Connections refused: there are `maxclients`, or nobody but this host may connect. */
  refusedFull: number;
  refusedDenied: number;
  /** Closed by the server: the client did not read. */
  closedSlow: number;
  /** Commands by what became of them. */
  locals: number;
  reads: number;
  writes: number;
  refused: number;
  tryAgain: number;
  inDoubt: number;
  /** Operations sent to the cluster. */
  readOperations: number;
  writeOperations: number;
  /** Operations for the commands that an earlier one left over. */
  continued: number;
  /** Reads that were sent again as an operation: a key that they saw had ended meanwhile. */
  readsAgain: number;
  protocolFaults: number;
  loginsFailed: number;
  inputBytes: number;
  outputBytes: number;
  /** Messages and notifications told, each time; messages that came without their bytes. */
  messagesTold: number;
  messagesLost: number;
  /** Times that changes were lost; that no replica told any for long. */
  feedLost: number;
  feedSilent: number;
}

export function newCounters(): Counters {
  return {
    connections: 0,
    refusedFull: 0,
    refusedDenied: 0,
    closedSlow: 0,
    locals: 0,
    reads: 0,
    writes: 0,
    refused: 0,
    tryAgain: 0,
    inDoubt: 0,
    readOperations: 0,
    writeOperations: 0,
    continued: 0,
    readsAgain: 0,
    protocolFaults: 0,
    loginsFailed: 0,
    inputBytes: 0,
    outputBytes: 0,
    messagesTold: 0,
    messagesLost: 0,
    feedLost: 0,
    feedSilent: 0,
  };
}
