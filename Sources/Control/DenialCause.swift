// One name for the data path's cause where a report has a `Cause` of its own.

import Frames

typealias DenialCause = Cause
