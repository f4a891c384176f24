package main

import (
	"context"
	"io"
	"log/slog"
	"math"
	"os"
)

// newLogger logs for people on a terminal, and for machines elsewhere.
func newLogger(w io.Writer, level slog.Leveler) *slog.Logger {
	handler := newLogHandler(w)
	return slog.New(&gate{handler, func(_ context.Context, l slog.Level) bool { return l >= level.Level() }})
}

// accessLogger writes where log writes, in the same form, whatever the level
// there, to whom enabled says so.
func accessLogger(log *slog.Logger, enabled func(context.Context) bool) *slog.Logger {
	handler := log.Handler()
	if g, ok := handler.(*gate); ok {
		handler = g.Handler
	}
	return slog.New(&gate{handler, func(ctx context.Context, _ slog.Level) bool { return enabled(ctx) }})
}

// newLogHandler takes every level: a gate before it decides.
func newLogHandler(w io.Writer) slog.Handler {
	options := &slog.HandlerOptions{Level: slog.Level(math.MinInt)}
	if f, ok := w.(*os.File); ok {
		if info, err := f.Stat(); err == nil && info.Mode()&os.ModeCharDevice != 0 {
			return slog.NewTextHandler(w, options)
		}
	}
	return slog.NewJSONHandler(w, options)
}

// gate is a handler that is asked each time whether it is enabled.
type gate struct {
	slog.Handler
	enabled func(context.Context, slog.Level) bool
}

// Enabled asks.
func (g *gate) Enabled(ctx context.Context, level slog.Level) bool { return g.enabled(ctx, level) }

// WithAttrs keeps the gate.
func (g *gate) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &gate{g.Handler.WithAttrs(attrs), g.enabled}
}

// WithGroup keeps the gate.
func (g *gate) WithGroup(name string) slog.Handler {
	return &gate{g.Handler.WithGroup(name), g.enabled}
}
