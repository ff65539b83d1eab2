/**
 * Keeps Node's inspector shut. On SIGUSR1 Node opens it at 127.0.0.1:9229, where every user of the host can run code in
 * the process and read its keys. With a handler of its own, the process ignores the signal. Imported first, for its
 * effect. `node --inspect` still opens the inspector, for the user who starts the process.
 */
process.on('SIGUSR1', () => undefined);
