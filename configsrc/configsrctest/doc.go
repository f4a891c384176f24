// Package configsrctest is the law for implementations of [configsrc.Source]:
// one suite that every source passes, against a fake backend and a real one.
//
// A driver's test describes its backend in a [Harness] and calls [Run]. With
// Harness.Virtual every case runs in a testing/synctest bubble, where an idle
// hour costs milliseconds; the fake backend must then live in memory, see
// [Transport]. Without it the same cases run in real time.
//
// Invariants:
//
//   - A case whose hook is missing fails, unless Harness.Missing gives the
//     reason why it cannot apply. A reason for a case that could run fails too.
//   - Whatever the case, every snapshot must hold exactly one of the contents
//     that were published, carry the hash of its values, and still be the same
//     at the end; every error must be an [*configsrc.Error] that says where it
//     comes from; and no secret and no value may show in an error, a label or a
//     log.
//   - The suite waits for everything it starts, and a source must leave nothing
//     behind: goroutines, requests at the backend, file descriptors, and, where
//     time is virtual, timers that would ask the backend later.
//
// The suite is tested itself, by a source that passes and by copies of it that
// are each broken in one way; see the package's own tests.
package configsrctest
