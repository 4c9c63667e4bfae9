"""What requests do to job schedules."""

from tests.batch_service.routes import Answer, Request, listed, route, schedule_of, shown, written
from tests.batch_service.schedules import Schedule, schedule_spec
from tests.batch_service.service import BatchService
from tests.batch_service.wire import BatchError


@route("POST", "/jobschedules")
def _add_schedule(service: BatchService, request: Request) -> Answer:
    spec = schedule_spec(request.body, "id")
    if spec["id"] in service.schedules:
        raise BatchError("JobScheduleExists")
    service.schedules[spec["id"]] = schedule = Schedule(service, spec)
    # The first job is there as soon as the schedule is.
    schedule.step(service.clock.now())
    return written(service, 201, schedule, f"/jobschedules/{schedule.id}")


@route("GET", "/jobschedules")
def _list_schedules(service: BatchService, request: Request) -> Answer:
    rows = [schedule.view() for schedule in service.schedules.values()]
    return listed(service, request, "jobschedules", rows)


@route("GET|HEAD", "/jobschedules/{}")
def _get_schedule(service: BatchService, request: Request, name: str) -> Answer:
    schedule = schedule_of(service, name)
    return shown(service, schedule, "jobschedules", schedule.view())


@route("PATCH|PUT", "/jobschedules/{}")
def _update_schedule(service: BatchService, request: Request, name: str) -> Answer:
    schedule = schedule_of(service, name, request)
    schedule.update(request.body, whole=request.method == "PUT")
    return written(service, 200, schedule, request.path)


@route("DELETE", "/jobschedules/{}")
def _delete_schedule(service: BatchService, request: Request, name: str) -> Answer:
    schedule_of(service, name, request).delete()
    return Answer(202)


@route("POST", "/jobschedules/{}/{}")
def _schedule_action(service: BatchService, request: Request, name: str, action: str) -> Answer:
    schedule = schedule_of(service, name, request)
    actions = {
        "enable": (204, schedule.enable),
        "disable": (204, schedule.disable),
        "terminate": (202, schedule.terminate),
    }
    if action not in actions:
        raise BatchError("InvalidUri", Path=request.path)
    status, act = actions[action]
    act()
    return written(service, status, schedule, request.path)


@route("GET", "/jobschedules/{}/jobs")
def _list_schedule_jobs(service: BatchService, request: Request, name: str) -> Answer:
    schedule_of(service, name)
    jobs = [job.view() for job in service.jobs.values() if job.schedule == name]
    return listed(service, request, "jobs", jobs)
