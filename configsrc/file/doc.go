// Package file reads a configuration from one file and follows it.
//
// It sees in-place writes, renames over the path, deletion and return, links
// and directories on the way that are swapped (a Kubernetes volume swaps
// "..data"), and a single file that is mounted over the path.
//
// Invariants:
//
//   - No state between two calls of Next: a call sets its watch up before it
//     reads and takes it down before it returns, so no change falls between,
//     and there is nothing to close. The file may be swapped, the process may
//     change hands; the next call sees what is there.
//   - A read is of one moment: size, times and identity of the open file are
//     the same before and after, or it is read again.
//   - What the path leads to must be a regular file. Nothing else is opened
//     for reading, so a named pipe at the path cannot hold up a call.
//   - An empty file is no configuration. One of which nothing but white space is
//     left is invalid content; a document of comments only, or {}, is a content
//     without keys.
//
// What it costs: while nothing changes, one look at the file's times every
// [Options.Backstop], or every [Options.Poll] where the kernel reports no
// changes; after a change, or a call that begins, one more read two seconds
// later, because two writes in one tick of the file system's clock leave the
// same times. A file that is written all the time is read at most a hundred
// times a second. A call that had set a watch up returns some 15 ms after the
// change, which is what Linux takes to close an inotify instance.
//
// What it does not do: it does not wait for a writer who truncates and then
// writes. What is in the file between the two is a state like any other (mostly
// the error that the file is empty); the caller waits for quiet. Where a directory further up than the file's own is
// replaced by another, the next look finds it, not an event.
package file
