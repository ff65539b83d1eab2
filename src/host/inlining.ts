/**
 * Lets V8 inline more into one function. Importing this file does it, for the whole process: only files that are a
 * process's entry import it.
 *
 * The hot path is many small functions with names. V8 stops inlining into a function at 920 bytes of bytecode, and at
 * 460 for one callee; beyond that each small function costs a call. With the limits below an operation costs the
 * protocol cores about a seventh less, without sockets (bench/core-rig.ts with 512 lanes). The price is paid once: a
 * process spends about a second of processor time more on compiling, on other threads. A program that embeds the
 * library may start Node with the same two flags (docs/start/library.md).
 */
import { setFlagsFromString } from 'node:v8';

setFlagsFromString('--max-inlined-bytecode-size=1000');
setFlagsFromString('--max-inlined-bytecode-size-cumulative=4000');
