// Package reload turns configuration sources into one typed value that is
// always valid, and keeps it up to date.
//
// A [Manager] follows the sources of its layers, lays their snapshots over each
// other, decodes the result strictly into the application's config type,
// validates it as a whole, builds from it what the application registered, and
// brings it into force with one atomic pointer store.
//
// # The config type
//
// T is a struct, described by tags:
//
//   - config:"name" is the field's segment of the dotted key. Every exported
//     field needs it; "-" leaves the field out.
//   - reload:"live" marks a field, and all below it, whose change takes effect
//     in place. Without it, on the field or around it, a change needs a
//     restart; forgetting the tag is safe.
//   - secret:"true" masks the value wherever it could be seen. A
//     [configsrc.Secret] is masked without the tag, and in fmt and slog too.
//   - alias:"other.key" is a second, absolute name.
//   - validate:"..." are the rules of github.com/go-playground/validator; what
//     they cannot say goes into a method Validate() error on any of the structs.
//
// Defaults are what Options.Default returns. Durations are written as "3s" or
// as a whole number of milliseconds, a list also as "a,b".
//
// # Invariants
//
//   - A reader of [Manager.Load] sees one revision, whole and valid, in one
//     atomic load. A request that was pinned ([Manager.Pin]) sees the same one
//     until it ends, and nothing built for it is closed under it before then,
//     up to Options.Grace.
//   - A revision comes into force whole or not at all. All that can fail
//     (decode, validate, build) happens before the swap. One that needs a
//     restart comes into force by it; where no restart is to be had, its live
//     part is applied under the running restart part, and the outcome says so.
//   - The content decides. A content in force is not applied again, and one
//     that was refused is not built again until the content changes. A failure
//     of the environment ([Retryable]) is tried again with back-off.
//   - The sources are followed whatever becomes of what they publish. One that
//     cannot be read keeps its last snapshot and holds up nobody else.
//   - Last good is written after a content came into force, and read only by
//     Start. It never replaces values in memory.
//   - One process at a time follows the sources and writes to the state folder.
//     The one that restarts does until Options.Restart has returned nil, and
//     writes nothing while that is under way; the new one does from the moment
//     its Run begins. An entry of the history has one number in both.
//   - A restart is for the content that is wanted now: another one calls it off.
//     The longer contents keep superseding each other, the longer is the pause
//     before the next try, 5 s at the most and 30 s after two minutes of it.
//   - A content whose process died soon after it took over is not tried again
//     until there was another one.
//   - No value of the configuration appears in a log line, an error, a metric,
//     the status or the history's index. Plan and Settings show values, secrets
//     masked, and so are keys that no field knows.
//
// # Restarts
//
// A change that needs a restart goes, as bytes, to Options.Restart, whose other
// end is Options.Handed of a manager in the new process. [Manager.Start] builds
// everything from the bytes there, and its errors abort the restart;
// [Manager.Run] begins when the process takes over. The manager of the old
// process is suspended then, and stays usable for the requests under way; after
// [Manager.Return] it follows again. Bytes of Options.Applied start a successor
// without a change: for a new binary, or after a crash.
//
// A limit: the bytes have the merged content of the sources, not each one's
// part. After a handed start nothing new is applied before every source has
// been read once.
//
// The manager's own work is one goroutine, plus one a source, one for
// Options.Restart, and one for each build or closing under way; [Manager.Run]
// waits for them all.
package reload
