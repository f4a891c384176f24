package load

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Prober asks a target which process answers. It may be used from many goroutines.
type Prober struct{ dialer *dialer }

// NewProber makes one. The target is validated.
func NewProber(t Target) (*Prober, error) {
	if err := t.validate(); err != nil {
		return nil, err
	}
	return &Prober{newDialer(t)}, nil
}

// Probe sends a GET on a fresh connection, once, and returns the process that
// answered. Each step, the connection and the answer, may take timeout.
func (p *Prober) Probe(ctx context.Context, timeout time.Duration) (pid int, err error) {
	c, err := p.dialer.open(ctx, timeout, true)
	if err != nil {
		return 0, fmt.Errorf("probe: %w", err)
	}
	a, err := c.send(ctx, 0)
	if err = errors.Join(err, c.close()); err != nil {
		return 0, fmt.Errorf("probe: %w", err)
	}
	return a.pid, nil
}
