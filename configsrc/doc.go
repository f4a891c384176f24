// Package configsrc is the contract between the places a configuration comes
// from and the code that applies it.
//
// A [Source] hands out whole [Snapshot] values: flat dotted keys
// ("server.timeout.request", "server.listen[0]"), each with its value and the
// place it was read from. Package reload lays the snapshots of several sources
// over each other with [Merge] and applies the result.
//
// Invariants, which every source keeps and package configsrctest checks:
//
//   - Whole state. A snapshot is everything the source is responsible for, as
//     of one moment of its backend. Deltas never leave a driver, so deletions,
//     bursts, lost signals and reconnects need no handling above it.
//   - Content decides. Two snapshots differ when their canonical hashes differ
//     ([Values.Hash]), whatever an index, a release key or a modification time
//     says about them.
//   - A [Version] is issued only together with the data it describes, in a
//     [Snapshot] or in an [*Error]. A driver that remembers a position before
//     it has the data for it loses updates.
//   - Stale rather than partial, and stale rather than empty. What cannot be
//     read or parsed is an error; it never shows as missing keys.
//   - Errors and logs hold keys, operations and addresses, never a value.
//
// Flattening, the grammar of keys and the limits on what a source may hand out
// are the same for all sources: see [Flatten], [Limits] and [Values.Check].
package configsrc
