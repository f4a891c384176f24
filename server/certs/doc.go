// Package certs holds the TLS material of a listener: a certificate with its
// key, and the authorities whose client certificates are accepted. It comes
// from PEM texts or from files that are watched, and is swapped in place.
//
// [Open] makes a [Store] of a [Config]; [Store.Load] is the [Material] in force;
// [TLS] makes the [tls.Config] of a listener that asks for it at each handshake.
//
// Invariants:
//
//   - There is always a Material. What happens to the files after Open never
//     takes it away: the last good one stays, and a warning says why. A client CA
//     that cannot be read never means that clients need no certificate.
//   - A Material is checked as a whole and never changes. A handshake sees one of
//     them, a connection that is open keeps its own.
//   - A session resumes only under the material that it began with. A client
//     whose authority was taken away is refused although it has a ticket, and a
//     new certificate is shown to every connection after the swap.
//   - New content of files is judged when two reads in a row saw the same, so
//     that a file that is being written is not taken for a shorter one.
//   - Messages name the part (cert, key, client_ca) and the file, and hold nothing
//     of the content. The log shows the subject of the certificate too.
//
// Changes of files are noticed by watching every directory on the way to them,
// symbolic links included, and by reading them again every 30 seconds where no
// event comes. A change is in force about 200 ms after it.
//
// Limits: one certificate, no choice by server name. No revocation lists and
// no OCSP: an authority is taken away by taking it out of the client CA. The chain
// is sent as it is and not verified; neither are the dates of its other
// certificates, nor those of the authorities, which crypto/tls checks at each
// handshake. A file system that does not answer cannot be interrupted: Open then
// returns with its context, Close after a grace, and one goroutine stays behind
// until the kernel lets it go.
package certs
