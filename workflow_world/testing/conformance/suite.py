"""Every test of the suite, to be star-imported into a backend's own test module."""

# pyright: reportGeneralTypeIssues=false
# The modules share names of constants; only the tests matter here.

from .atomicity import *  # noqa: F403
from .constraints import *  # noqa: F403
from .hooks import *  # noqa: F403
from .lifecycle import *  # noqa: F403
from .log_order import *  # noqa: F403
from .paging import *  # noqa: F403
from .queue_callbacks import *  # noqa: F403
from .queue_claims import *  # noqa: F403
from .queue_faults import *  # noqa: F403
from .queue_handover import *  # noqa: F403
from .queue_http import *  # noqa: F403
from .queue_keeping import *  # noqa: F403
from .queue_settle import *  # noqa: F403
from .queue_sharing import *  # noqa: F403
from .queue_store import *  # noqa: F403
from .queue_taken import *  # noqa: F403
from .queue_unserved import *  # noqa: F403
from .queue_worker import *  # noqa: F403
from .reads import *  # noqa: F403
from .recovery import *  # noqa: F403
from .recovery_facts import *  # noqa: F403
from .resolve_data import *  # noqa: F403
from .resumes import *  # noqa: F403
from .run_ends import *  # noqa: F403
from .run_events import *  # noqa: F403
from .step_events import *  # noqa: F403
from .stream_readers import *  # noqa: F403
from .streams import *  # noqa: F403
from .values import *  # noqa: F403
from .waits_attributes_legacy import *  # noqa: F403
from .zombies import *  # noqa: F403
