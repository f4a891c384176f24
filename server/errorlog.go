package server

import (
	"context"
	"log/slog"
	"strings"
	"sync/atomic"
)

// complaints is the handler of what net/http logs. Failed TLS handshakes are
// counted, and logged at level debug only: anybody can cause them, as many as
// they like.
type complaints struct {
	slog.Handler
	handshakes *atomic.Uint64
}

func (h complaints) Handle(ctx context.Context, r slog.Record) error {
	if strings.HasPrefix(r.Message, "http: TLS handshake error") {
		h.handshakes.Add(1)
		if r.Level = slog.LevelDebug; !h.Enabled(ctx, r.Level) {
			return nil
		}
	}
	return h.Handler.Handle(ctx, r)
}
