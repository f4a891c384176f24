//go:build !linux

package file

import "testing"

// rerunAsNobody is not there for this system: root may read what it likes, so
// the suite wants a user.
func rerunAsNobody(t *testing.T, _ string) {
	t.Helper()
	t.Fatal("run this as a user that is not root")
}
