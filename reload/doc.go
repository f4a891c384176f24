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
//   - No value of the configuration appears in a log line, an error, a metric,
//     the status or the history's index. Plan and Settings show values, secrets
//     masked, and so are keys that no field knows.
//
// The manager's own work is one goroutine, plus one a source and one for each
// build or closing under way; [Manager.Run] waits for them all.
package reload
