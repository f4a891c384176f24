// Command ratios measures the library beside its rivals and prints one table.
// It exits with 0 even where a target is missed; the table says so.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"time"

	"github.com/hotsvc/svc/compare/rivals"
)

// timeLimit is more than a slow machine needs, without counting more restarts
// than the plan has.
const timeLimit = 30 * time.Minute

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if rivals.IsServer() {
		if err := rivals.Serve(ctx, os.Stdin, os.Stdout); err != nil {
			_, _ = fmt.Fprintln(os.Stderr, "ratios:", err)
			os.Exit(1) //nolint:forbidigo // the same
		}
		return
	}
	if err := run(ctx, os.Args[1:], os.Stdout, os.Stderr); err != nil && !errors.Is(err, flag.ErrHelp) {
		_, _ = fmt.Fprintln(os.Stderr, "ratios:", err)
		os.Exit(1) //nolint:forbidigo // the one place where the process ends by itself
	}
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) (err error) {
	flags := flag.NewFlagSet("ratios", flag.ContinueOnError)
	flags.SetOutput(stderr)
	asJSON := flags.Bool("json", false, "print JSON instead of the table")
	seed := flags.Uint64("seed", 1, "for the intervals; the same samples and seed give the same bounds")
	restarts := flags.Int("restarts", 200, "restarts of each system")
	protocol := flags.String("protocol", "tcp", "of the requests beside restarts: tcp, tls, h2 or unix")
	gap := flags.Duration("gap", 200*time.Millisecond, "from the end of a restart to the next trigger")
	onlyRestarts := flags.Bool("only-restarts", false, "measure restarts alone")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	ctx, cancel := context.WithTimeout(ctx, timeLimit)
	defer cancel()
	dir, err := os.MkdirTemp("", "ratios-")
	if err != nil {
		return fmt.Errorf("make a folder for the edited file: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	plan := rivals.FullPlan(dir, *seed)
	plan.Restarts.Restarts, plan.Restarts.Protocol = *restarts, rivals.Protocol(*protocol)
	plan.Restarts.Gap = *gap
	plan.Restarts.Turns = min(plan.Restarts.Turns, *restarts)
	if *onlyRestarts {
		plan.Only = rivals.StepRestarts
	}
	report, err := rivals.Run(ctx, plan, func(step string) {
		_, _ = fmt.Fprintln(stderr, "measuring "+step)
	})
	if err != nil {
		return err
	}
	if !*asJSON {
		return report.WriteTable(stdout)
	}
	encoder := json.NewEncoder(stdout)
	encoder.SetIndent("", "  ")
	return encoder.Encode(report)
}
