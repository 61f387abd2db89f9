package cli

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/penstock-events/penstock/pkg/backup"
	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/config/file"
)

// checkFolder looks at a data folder as files: who may read it, whose it is,
// and whether a restore into it came to its end.
func checkFolder(dir string) []channel.Finding {
	const subject = "folder"
	var all []channel.Finding
	add := func(s channel.Severity, what, means, cure string) {
		all = append(all, channel.Finding{Severity: s, Subject: subject, What: what, Means: means, Cure: cure})
	}
	if err := backup.Unfinished(dir); err != nil {
		add(channel.Problem, err.Error(), "penstock serve does not start with it", "empty the folder and restore again")
	}
	open, foreign, err := walkFolder(dir)
	if err != nil {
		add(channel.Problem, "cannot be looked through: "+err.Error(), "penstock serve may not be able to use it", "run this as the user who runs penstock serve")
	}
	if open != "" {
		add(channel.Warning, open+" can be read by other users of this machine", "events are not encrypted", "chmod -R go= "+dir)
	}
	if foreign != "" {
		add(channel.Warning, foreign+" belongs to another user than the folder", "penstock serve, run by the folder's owner, may not be able to write it",
			"chown -R the folder to the user who runs penstock serve")
	}
	if len(all) == 0 {
		add(channel.OK, dir, "", "")
	}
	return all
}

// walkFolder finds the first file that others may read, and the first that is
// not the folder owner's; "" for none.
func walkFolder(dir string) (open, foreign string, err error) {
	root, err := os.Stat(dir)
	if err != nil {
		return "", "", err
	}
	entered := make(map[string]bool) // folders that others may enter
	err = filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		may := path == dir || entered[filepath.Dir(path)]
		if entry.IsDir() {
			entered[path] = may && othersMay(info, enter)
		} else if open == "" && may && othersMay(info, read) {
			open = path
		}
		if foreign == "" && ownerOf(info) != ownerOf(root) {
			foreign = path
		}
		return nil
	})
	return open, foreign, err
}

// checkIdentities holds the identities to the brokers that have events.
func checkIdentities(dir string, stored []channel.BrokerInfo) []channel.Finding {
	const subject = "identities"
	path := filepath.Join(dir, file.IdentityFile)
	found, err := file.Inspect(dir)
	if err != nil {
		return []channel.Finding{{Severity: channel.Problem, Subject: subject, What: err.Error(),
			Means: "penstock serve does not start: without identities stored events belong to nobody", Cure: "put the file back from the backup that the log is from"}}
	}
	var all []channel.Finding
	for _, b := range stored {
		if !found.Known[b.UID] {
			all = append(all, channel.Finding{Severity: channel.Problem, Subject: subject,
				What:  fmt.Sprintf("%s does not know broker %s (uid %s), which has events here", path, b.Name, b.UID),
				Means: "penstock serve does not start: these events would belong to nobody",
				Cure:  "put the " + file.IdentityFile + " back that belongs to this log"})
		}
	}
	if len(all) == 0 {
		all = append(all, channel.Finding{Subject: subject, What: fmt.Sprintf("%s and %s, verified", channel.Count(found.Brokers, "Broker"), channel.Count(found.Triggers, "Trigger"))})
	}
	return all
}
