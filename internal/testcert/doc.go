// Package testcert makes certificates for tests and measurements: those that an
// [Authority] issues, and self-signed ones. No production code imports it.
//
// Invariants:
//
//   - Nothing needs a [testing.TB], so that examples, seeds of fuzz tests and
//     measurements use it too. What cannot be made is a panic: it is a mistake in
//     an edit func, or the machine has no randomness.
//   - Every certificate has a serial number of its own and is valid from an hour
//     ago on, by the clock of the caller: under testing/synctest, the virtual one.
//   - An edit func gets the template before it is signed and may change all of it;
//     the last one has the last word.
//
// Limits: keys are ECDSA on P-256, unless the caller has one ([Authority.IssueFor]).
// There are no intermediate authorities and no revocation.
package testcert
