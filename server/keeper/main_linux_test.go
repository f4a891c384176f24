package keeper_test

import (
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"
)

// folderMark names the folder of a program that a test runs. Every process of
// that program has it, and so can be found.
const folderMark = "SVC_KEEPER_TEST_FOLDER"

func TestMain(m *testing.M) {
	if os.Getenv("SVC_KEEPER_TEST_FDS") != "" {
		_, _ = fmt.Fprint(os.Stdout, describeFDs())
		for _, variable := range os.Environ() {
			_, _ = fmt.Fprintln(os.Stdout, "env", variable)
		}
		os.Exit(0)
	}
	if limit := os.Getenv(limitMark); limit != "" {
		os.Exit(limitProcesses(limit))
	}
	if folder := os.Getenv(folderMark); folder != "" {
		os.Exit(program(folder))
	}
	goleak.VerifyTestMain(m)
}
