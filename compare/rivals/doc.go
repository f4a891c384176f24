// Package rivals measures the library pieces of this module beside those of
// the field: one setting read, 10,000 keys reloaded, readers during reloads,
// the time from the edit of a file to its effect, what a request costs whose
// timeouts are live, beside gin on net/http with static ones, and what a restart
// does to the requests beside it.
//
// Invariants:
//
//   - What is set against each other is measured in the same run, in turns, and
//     compared round by round: the figure to trust is the median of the rounds'
//     ratios with its interval, not an absolute time on a machine that others
//     use too.
//   - All libraries get the same documents and are asked for the same key. A
//     reload counts only once a reader has read the new value.
//   - Nothing is left out of our side to make it look better; the notes of a [Report] say what
//     each side includes.
//
// It has a module of its own, so that nobody who uses ours gets the others with
// it. The benchmarks name the library in a sub-benchmark, lib=NAME, ours first;
// cmd/ratios measures everything and prints one table. The servers run in a
// process of their own, which is this program once more: see [Serve]. So do those
// that are restarted, in as many processes as a restart takes; the clients beside
// a restart are those of package load, which tests of other servers may use too.
package rivals
