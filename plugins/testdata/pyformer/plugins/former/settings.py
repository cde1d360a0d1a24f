HEADING = "h"
