// Package admin is the operator's listener: a small HTTP API over whatever a
// [Backend] offers, and the client for it.
//
// It knows nothing of how a configuration is followed or served; the wiring
// gives it funcs whose results it writes as JSON. Errors are
// application/problem+json (RFC 9457). It listens on a unix socket that only
// the owner of the state folder can reach, so the API itself asks for no
// credentials.
package admin
