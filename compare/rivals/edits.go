package rivals

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"github.com/hotsvc/svc/configsrc/file"
)

// editedKeys is the size of the file that is edited.
const editedKeys = 100

// maxPause is the most that passes between an effect and the next edit.
const maxPause = 50 * time.Millisecond

// measureEdits replaces a file in dir by rename again and again and returns how
// long each edit took to come into force, in milliseconds, from just before the
// rename on.
func measureEdits(ctx context.Context, dir string, edits int, quiet time.Duration, seed uint64) (took []float64, err error) {
	path := filepath.Join(dir, "config.yaml")
	if err := os.WriteFile(path, newDocument(editedKeys, section, time.Second).text, 0o600); err != nil {
		return nil, fmt.Errorf("write the file to edit: %w", err)
	}
	source, err := file.New(path, file.Options{})
	if err != nil {
		return nil, err
	}
	m, err := startManager(ctx, source, quiet)
	if err != nil {
		return nil, err
	}
	defer func() {
		if closeErr := m.close(); err == nil {
			err = closeErr
		}
	}()
	random := rand.New(rand.NewPCG(seed, 0)) //nolint:gosec // it spreads the edits, no more
	for i := range edits {
		// Edits come at any time, not in step with the effect of the one before.
		if err := pause(ctx, time.Duration(random.Int64N(int64(maxPause)))); err != nil {
			return nil, err
		}
		d := newDocument(editedKeys, section, time.Second+time.Duration(i+1)*time.Millisecond)
		edited := path + ".new"
		if err := os.WriteFile(edited, d.text, 0o600); err != nil {
			return nil, fmt.Errorf("write the edited file: %w", err)
		}
		began := time.Now()
		if err := os.Rename(edited, path); err != nil {
			return nil, fmt.Errorf("put the edited file in place: %w", err)
		}
		at, err := m.effect(ctx, d.timeout)
		if err != nil {
			return nil, fmt.Errorf("edit %d: %w", i+1, err)
		}
		took = append(took, milliseconds(at.Sub(began)))
	}
	return took, nil
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
