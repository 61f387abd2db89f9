package file

import "github.com/penstock-events/penstock/pkg/channel"

// Inspection is what a data folder knows of its objects.
type Inspection struct {
	Brokers, Triggers int
	Known             map[channel.UID]bool // Brokers there are, and those removed not long ago
}

// Inspect reads the identities in a data folder and verifies them, as a start
// would. It changes nothing. A folder without any gives an empty Inspection.
func Inspect(dir string) (Inspection, error) {
	found := Inspection{Known: make(map[channel.UID]bool)}
	s, err := openStore(dir, nil)
	if err != nil {
		return found, err
	}
	for _, i := range s.state.Identities {
		if i.Object.Broker == nil {
			found.Triggers++
			continue
		}
		found.Brokers++
		found.Known[i.UID] = true
	}
	for _, r := range s.state.Removed {
		found.Known[r.UID] = true
	}
	return found, nil
}
