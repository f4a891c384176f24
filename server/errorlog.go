package server

import (
	"context"
	"log/slog"
	"strings"
	"sync/atomic"
)

// complaints is the handler of what net/http logs. What clients do wrong is
// logged at level debug only: anybody can cause it, as often as they like. Failed
// TLS handshakes are counted.
type complaints struct {
	slog.Handler
	handshakes *atomic.Uint64
}

const handshakeError = "http: TLS handshake error"

func (h complaints) Handle(ctx context.Context, r slog.Record) error {
	if strings.HasPrefix(r.Message, handshakeError) {
		h.handshakes.Add(1)
	}
	if byClient(r.Message) {
		if r.Level = slog.LevelDebug; !h.Enabled(ctx, r.Level) {
			return nil
		}
	}
	return h.Handler.Handle(ctx, r)
}

// byClient reports whether a message of net/http is about what a client does.
// net/http has no other mark.
func byClient(message string) bool {
	for _, beginning := range []string{
		handshakeError,
		"http2: server connection error",
		"http2: server closing client connection",
		"http2: server: error reading preface",
		"http2: received GOAWAY",
		"timeout waiting for SETTINGS",
	} {
		if strings.HasPrefix(message, beginning) {
			return true
		}
	}
	return false
}
