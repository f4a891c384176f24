package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"github.com/hotsvc/svc/admin"
	"github.com/hotsvc/svc/server/keeper"
)

// restartTimeout bounds the wait for a restart: one that is under way, and this
// one.
const restartTimeout = 5 * time.Minute

func newRestartCommand(b *bootstrap) *cobra.Command {
	var out output
	cmd := &cobra.Command{
		Use:   "restart",
		Short: "Restart gracefully, with the program as it is on disk now",
		Long: `Start a new worker of the program as it is on disk now, with the config in force,
and have it take over. No request is lost, and no connection that can be kept. It
returns when the new one accepts. Where one is being started already, it waits
for that and then restarts.

Exit codes: 0 restarted, 1 what served before goes on, for the reason that is
printed.`,
		Example: "  svc restart",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := b.resolve(); err != nil {
				return err
			}
			result, err := b.restart(cmd.Context())
			if err != nil {
				return err
			}
			if err := out.print(b.stdout, result, result.text); err != nil {
				return err
			}
			if result.Outcome != restarted {
				return &exitError{1, nil}
			}
			return nil
		},
	}
	out.addFlag(cmd.Flags())
	return cmd
}

const (
	restarted     = "restarted"
	restartFailed = "restart_failed"
)

// restart asks the keeper itself, which answers when no worker does; over the
// network, the worker.
func (b *bootstrap) restart(ctx context.Context) (restartResult, error) {
	ctx, cancel := context.WithTimeout(ctx, restartTimeout)
	defer cancel()
	if b.adminNamed {
		var result restartResult
		err := b.ask(ctx, restartTimeout, func(ctx context.Context, c *admin.Client) error {
			return c.Post(ctx, "/api/v1/restart", nil, nil, &result)
		})
		if answer, ok := errors.AsType[*admin.Problem](err); ok &&
			(answer.Status == http.StatusServiceUnavailable || answer.Status == http.StatusConflict) {
			return restartResult{Outcome: restartFailed, Reason: answer.Error()}, nil
		}
		return result, err
	}
	err := keeper.AskRestart(ctx, b.stateDir)
	switch {
	case err == nil:
		return restartResult{Outcome: restarted}, nil
	case noneRuns(err):
		return restartResult{}, fmt.Errorf("no keeper answers in %s: start the service with \"svc run\", without --no-keeper: %w", b.stateDir, err)
	case ctx.Err() != nil:
		return restartResult{}, err
	}
	return restartResult{Outcome: restartFailed, Reason: err.Error()}, nil
}

func (r restartResult) text(w io.Writer) {
	_, _ = fmt.Fprintln(w, r.Outcome)
	if r.Reason != "" {
		_, _ = fmt.Fprintln(w, r.Reason)
	}
}
