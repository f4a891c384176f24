package main

import (
	"fmt"
	"io"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// version is set at build time: -ldflags "-X main.version=v1.2.3".
var version = "dev"

// env is what the program knows of the world.
type env struct {
	getenv         func(string) string
	stdin          io.Reader
	stdout, stderr io.Writer
}

func newRootCommand(e *env) *cobra.Command {
	b := &bootstrap{env: e}
	root := &cobra.Command{
		Use:   "svc",
		Short: "A service whose settings follow a config center while it runs",
		Long: `svc serves HTTP with settings from a config source and follows the source while
it runs: a change is checked as a whole and takes effect in place, or by a
graceful restart. "svc run" starts it; the other commands ask the running
service, found by --admin, SVC_ADMIN, or the state folder (SVC_STATE_DIR).

Exit code 2 of any command: it was not understood, or has nothing to work on.`,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	b.addFlags(root.PersistentFlags())
	root.AddCommand(
		newRunCommand(b), newValidateCommand(b), newPlanCommand(b), newStatusCommand(b), newConfigCommand(b),
		newHistoryCommand(b), newRollbackCommand(b), newReloadCommand(b), newRestartCommand(b), newDoctorCommand(b), newVersionCommand(e),
	)
	return root
}

func newVersionCommand(e *env) *cobra.Command {
	var out output
	cmd := &cobra.Command{
		Use:     "version",
		Short:   "Print the version",
		Example: "  svc version\n  svc version --output json",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			v := map[string]string{"version": version, "go": runtime.Version(), "platform": runtime.GOOS + "/" + runtime.GOARCH}
			if info, ok := debug.ReadBuildInfo(); ok {
				for _, s := range info.Settings {
					if s.Key == "vcs.revision" {
						v["commit"] = s.Value
					}
				}
			}
			return out.print(e.stdout, v, func(w io.Writer) {
				_, _ = fmt.Fprintf(w, "svc %s %s %s\n", v["version"], v["go"], v["platform"])
			})
		},
	}
	out.addFlag(cmd.Flags())
	return cmd
}
